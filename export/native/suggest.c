/* The likeliest next words, or completions of the word that was begun; keras_seq/generation/suggest.py is the reference.
 *
 * A token of a word vocabulary is a whole word, so one look-up answers. At character level, a best-first search spells words
 * to their ends. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

typedef struct {
  ks_model *model;
  const char *text; /* what is typed; its last `begun` bytes are the word that was begun */
  size_t size, begun;
  size_t wanted, found;
  ks_answer *answers;
} Search;

static const char NOT_FINITE[] = "no word can be suggested: the model's logits are not finite";

static bool is_forbidden(const ks_vocabulary *vocabulary, int32_t id) {
  return id == vocabulary->pad || id == vocabulary->start || id == vocabulary->unknown;
}

/* ---- word and whitespace: one look-up ---- */

/* Returns whether a token may continue what was begun. <eos> has no text. */
static bool matches(const Search *search, int32_t id) {
  const ks_vocabulary *vocabulary = &search->model->vocabulary;
  const ks_token *token = &vocabulary->by_id[id];
  if (is_forbidden(vocabulary, id)) return false;
  if (id == vocabulary->eos) return !search->begun;
  return token->size >= search->begun && !memcmp(token->text, search->text + search->size - search->begun, search->begun);
}

/* Returns whether a matching token may be suggested. */
static bool is_candidate(const Search *search, int32_t id) {
  const ks_vocabulary *vocabulary = &search->model->vocabulary;
  const ks_token *token = &vocabulary->by_id[id];
  if (id == vocabulary->eos || token->size <= search->begun) return false;
  return ks_is_word(vocabulary->level, token->text, token->size);
}

/* Returns whether there is an answer with the same text: "and" and " and" show the same. */
static bool is_shown(const Search *search, const char *insert, size_t size) {
  size_t skipped = !search->begun && *insert == ' ';
  for (size_t i = 0; i < search->found; i++) {
    const ks_answer *other = &search->answers[i];
    size_t other_skipped = !search->begun && *other->insert == ' ';
    if (other->insert_size - other_skipped == size - skipped && !memcmp(other->insert + other_skipped, insert + skipped, size - skipped))
      return true;
  }
  return false;
}

/* Adds an answer, unless a likelier one has the same text. */
static ks_status add_answer(Search *search, const char *insert, size_t size, double probability, ks_error *error) {
  if (is_shown(search, insert, size)) return KS_OK;
  char *copy = malloc(size);
  if (!copy) return ks_no_memory(error);
  memcpy(copy, insert, size);
  search->answers[search->found++] = (ks_answer){copy, size, probability};
  return KS_OK;
}

/* Requires the logits to have no NaN and the largest to be finite. */
static ks_status check_logits(const float *logits, size_t count, ks_error *error) {
  bool has_finite = false;
  for (size_t i = 0; i < count; i++) {
    if (isnan(logits[i]) || logits[i] == INFINITY) return ks_fail(error, KS_FAILED, NOT_FINITE);
    has_finite |= isfinite(logits[i]);
  }
  return has_finite ? KS_OK : ks_fail(error, KS_FAILED, NOT_FINITE);
}

/* Gives the candidates with the largest logits; the lower id comes first on a tie. */
static ks_status add_likeliest(Search *search, const float *logits, double largest, double sum, ks_error *error) {
  const ks_vocabulary *vocabulary = &search->model->vocabulary;
  int32_t previous = -1;
  while (search->found < search->wanted) {
    int32_t best = -1;
    for (int32_t id = 0; id < vocabulary->count; id++) {
      bool was_taken = previous >= 0 && (logits[id] > logits[previous] || (logits[id] == logits[previous] && id <= previous));
      if (!was_taken && (best < 0 || logits[id] > logits[best]) && matches(search, id) && is_candidate(search, id)) best = id;
    }
    if (best < 0) return KS_OK;
    const ks_token *token = &vocabulary->by_id[best];
    TRY(add_answer(search, token->text + search->begun, token->size - search->begun, exp(logits[best] - largest) / sum, error));
    previous = best;
  }
  return KS_OK;
}

static ks_status look_up(Search *search, ks_error *error) {
  const ks_vocabulary *vocabulary = &search->model->vocabulary;
  const float *logits = search->model->read.logits;
  double largest = -INFINITY, sum = 0;
  for (int32_t id = 0; id < vocabulary->count; id++)
    if (matches(search, id)) largest = logits[id] > largest ? logits[id] : largest;
  if (largest == -INFINITY) return KS_OK; /* nothing matches */
  for (int32_t id = 0; id < vocabulary->count; id++)
    if (matches(search, id)) sum += exp(logits[id] - largest);
  return add_likeliest(search, logits, largest, sum, error);
}

/* ---- char: best-first search to the end of the word ---- */

enum { MOST_CALLS = 64, CHILDREN = 32, LONGEST = 32, MOST_NODES = 1 + (MOST_CALLS + 1) * (CHILDREN + 1) };

typedef struct {
  double log_probability;
  int parent, length; /* length: characters of the insert */
  int32_t token;      /* its last character; -1 for the root and for the end of a word */
  ks_place state;
  bool is_complete, is_popped;
  const uint8_t *states; /* after the token, once it was read */
} Node;

typedef struct {
  Search *search;
  Node *nodes;
  int count, calls;
  uint8_t *states; /* those of all nodes that were read */
  uint8_t *kinds, *is_chosen; /* for each token: what it is; whether it is a child of the node that is expanded */
} Spelling;

/* Returns what a token is for the search. <eos> ends a word, as other signs do. */
static ks_kind kind_of(const ks_vocabulary *vocabulary, int32_t id) {
  const ks_token *token = &vocabulary->by_id[id];
  if (is_forbidden(vocabulary, id)) return KS_NEVER;
  return id == vocabulary->eos ? KS_SIGN : ks_kind_of(token->text, token->size);
}

static void add_node(Spelling *spelling, int parent, double log_probability, int32_t token, ks_place state, bool is_complete) {
  if (log_probability == -INFINITY) return;
  int length = spelling->nodes[parent].length + (token >= 0);
  spelling->nodes[spelling->count++] = (Node){log_probability, parent, length, token, state, is_complete, false, NULL};
}

/* Returns the token with the largest logit that may follow and was not chosen; the lower id on a tie; -1 if there is none. */
static int32_t likeliest(const Spelling *spelling, ks_place state, const float *logits) {
  int32_t best = -1, count = spelling->search->model->vocabulary.count;
  for (int32_t id = 0; id < count; id++)
    if (!spelling->is_chosen[id] && (best < 0 || logits[id] > logits[best]) && ks_may_follow(state, (ks_kind)spelling->kinds[id])) best = id;
  return best;
}

/* Adds the nodes after one whose logits are known. */
static void expand(Spelling *spelling, int parent, const float *logits) {
  const Node node = spelling->nodes[parent];
  int32_t count = spelling->search->model->vocabulary.count;
  double largest = -INFINITY, sum = 0, end = 0;
  for (int32_t id = 0; id < count; id++)
    if (spelling->kinds[id] != KS_NEVER && logits[id] > largest) largest = logits[id];
  for (int32_t id = 0; id < count; id++) {
    ks_kind kind = (ks_kind)spelling->kinds[id];
    double probability = kind == KS_NEVER ? 0 : exp(logits[id] - largest);
    sum += probability;
    if (kind != KS_LETTER && kind != KS_APOSTROPHE) end += probability;
  }
  if (node.state == KS_INSIDE && node.length)
    add_node(spelling, parent, node.log_probability + log(end / sum), -1, node.state, true);
  if (node.length == LONGEST) return;
  memset(spelling->is_chosen, 0, (size_t)count);
  for (int child = 0; child < CHILDREN; child++) {
    int32_t id = likeliest(spelling, node.state, logits);
    if (id < 0) return;
    spelling->is_chosen[id] = 1;
    ks_kind kind = (ks_kind)spelling->kinds[id];
    add_node(spelling, parent, node.log_probability + (logits[id] - largest - log(sum)), id, ks_place_after(kind), kind == KS_WHOLE);
  }
}

/* Returns the node with the largest log-probability; the one that was created first on a tie; -1 if there is none. */
static int pop(Spelling *spelling) {
  int best = -1;
  for (int i = 0; i < spelling->count; i++)
    if (!spelling->nodes[i].is_popped && (best < 0 || spelling->nodes[i].log_probability > spelling->nodes[best].log_probability))
      best = i;
  if (best >= 0) spelling->nodes[best].is_popped = true;
  return best;
}

/* Adds a complete word to the answers. */
static ks_status add_word(Spelling *spelling, int node, ks_error *error) {
  const ks_vocabulary *vocabulary = &spelling->search->model->vocabulary;
  char insert[4 * (LONGEST + 1)];
  size_t start = sizeof insert;
  for (int at = node; at > 0; at = spelling->nodes[at].parent) {
    if (spelling->nodes[at].token < 0) continue;
    const ks_token *token = &vocabulary->by_id[spelling->nodes[at].token];
    start -= token->size;
    memcpy(insert + start, token->text, token->size);
  }
  return add_answer(spelling->search, insert + start, sizeof insert - start, exp(spelling->nodes[node].log_probability), error);
}

static ks_status search_words(Spelling *spelling, const uint8_t *root_states, ks_error *error) {
  Search *search = spelling->search;
  ks_runtime *runtime = &search->model->runtime;
  spelling->nodes[0].states = root_states;
  for (int at; search->found < search->wanted && (at = pop(spelling)) >= 0;) {
    Node *node = &spelling->nodes[at];
    if (node->is_complete) {
      TRY(add_word(spelling, at, error));
    } else if (!at) {
      expand(spelling, at, search->model->read.logits);
    } else if (spelling->calls < MOST_CALLS) {
      uint8_t *states = spelling->states + (size_t)spelling->calls++ * runtime->states_size;
      TRY(ks_step(runtime, node->token, spelling->nodes[node->parent].states, states, error));
      node->states = states;
      TRY(check_logits(runtime->decoded.logits, runtime->logit_count, error));
      expand(spelling, at, runtime->decoded.logits);
    }
  }
  return KS_OK;
}

static ks_status spell(Search *search, ks_place state, ks_error *error) {
  ks_runtime *runtime = &search->model->runtime;
  size_t count = (size_t)search->model->vocabulary.count;
  Spelling spelling = {.search = search, .count = 1};
  spelling.nodes = calloc(MOST_NODES, sizeof *spelling.nodes);
  spelling.states = calloc(MOST_CALLS, runtime->states_size);
  spelling.kinds = malloc(2 * count);
  ks_status status = KS_OUT_OF_MEMORY;
  if (spelling.nodes && spelling.states && spelling.kinds) {
    spelling.is_chosen = spelling.kinds + count;
    for (size_t id = 0; id < count; id++) spelling.kinds[id] = (uint8_t)kind_of(&search->model->vocabulary, (int32_t)id);
    spelling.nodes[0] = (Node){.parent = -1, .token = -1, .state = state};
    status = search_words(&spelling, search->model->read.states, error);
  } else {
    ks_no_memory(error);
  }
  free(spelling.nodes);
  free(spelling.states);
  free(spelling.kinds);
  return status;
}

/* ---- the answer ---- */

/* Reads a text, all of it or up to the word that was begun. */
static ks_status read_text(const Search *search, size_t size, ks_error *error) {
  const ks_vocabulary *vocabulary = &search->model->vocabulary;
  int32_t *tokens;
  size_t count;
  TRY(ks_encode_text(vocabulary, "text", search->text, size, vocabulary->start, &tokens, &count, error));
  ks_status status = ks_read_tokens(search->model, tokens, count, error);
  free(tokens);
  return status ? status : check_logits(search->model->read.logits, search->model->runtime.logit_count, error);
}

/* Finds the likeliest words of the model. */
static ks_status find_words(Search *search, ks_place place, ks_error *error) {
  if (search->model->vocabulary.level == KS_CHARACTERS) {
    TRY(read_text(search, search->size, error));
    return spell(search, place, error);
  }
  TRY(read_text(search, search->size - search->begun, error));
  return look_up(search, error);
}

/* Returns whether own words may complete what was begun: split at white space, it may have other characters than a word. */
static bool uses_own_words(const Search *search) {
  const ks_own_words *own = search->model->own_words;
  if (!own || !own->word_count) return false;
  ks_place ignored;
  size_t space = search->begun && search->text[search->size - search->begun] == ' ';
  return search->begun - space == ks_begun_size(KS_CHARACTERS, search->text, search->size, &ignored);
}

/* Finds the likeliest words. */
static ks_status find_suggestions(Search *search, ks_error *error) {
  enum { MIXED = 8 }; /* at least so many words of the model are mixed with own words */
  size_t valid = ks_valid_size(search->text, search->size), wanted = search->wanted;
  if (valid != search->size) return ks_fail(error, KS_BAD_TEXT, "text must be UTF-8; byte %zu is not", valid);
  ks_place place;
  search->begun = ks_begun_size(search->model->vocabulary.level, search->text, search->size, &place);
  if (!uses_own_words(search)) return find_words(search, place, error);
  if (search->wanted < MIXED) search->wanted = MIXED;
  TRY(find_words(search, place, error));
  return ks_mix_own_words(search->model, search->text, search->size, search->begun, wanted, search->answers, &search->found, error);
}

/* Copies the answers to one block of memory: the suggestions, then their strings. */
static ks_status give(const Search *search, ks_suggestion **suggestions, ks_error *error) {
  const char *begun = search->text + search->size - search->begun;
  size_t room = sizeof(ks_suggestion);
  for (size_t i = 0; i < search->found; i++)
    room += sizeof(ks_suggestion) + search->begun + 2 * search->answers[i].insert_size + 2;
  ks_suggestion *given = malloc(room);
  if (!given) return ks_no_memory(error);
  char *next = (char *)(given + search->found);
  for (size_t i = 0; i < search->found; i++) {
    const ks_answer *answer = &search->answers[i];
    size_t size = answer->insert_size;
    memcpy(next, begun, search->begun);
    memcpy(next + search->begun, answer->insert, size);
    given[i] = (ks_suggestion){next + (*next == ' '), next + search->begun + size + 1, answer->probability};
    next[search->begun + size] = 0;
    next += search->begun + size + 1;
    memcpy(next, answer->insert, size);
    next[size] = 0;
    next += size + 1;
  }
  *suggestions = given;
  return KS_OK;
}

ks_status ks_suggest(ks_model *model, const char *text, size_t count, ks_suggestion **suggestions, size_t *found,
                     ks_error *error) {
  if (!model || !text || !suggestions || !found)
    return ks_fail(error, KS_BAD_ARGUMENT, "model, text, suggestions and found must not be NULL");
  if (count < 1 || count > KS_MOST_SUGGESTIONS) return ks_fail(error, KS_BAD_ARGUMENT, "count must be from 1 to 100. Received: %zu", count);
  TRY(ks_begin(model, error));
  ks_answer answers[KS_MOST_SUGGESTIONS];
  Search search = {.model = model, .text = text, .size = strlen(text), .wanted = count, .answers = answers};
  ks_status status = find_suggestions(&search, error);
  if (!status) status = give(&search, suggestions, error);
  if (!status) *found = search.found;
  for (size_t i = 0; i < search.found; i++) free(answers[i].insert);
  ks_end(model);
  return status;
}
