/* The likeliest next words, or completions of the word that was begun; keras_seq/generation/suggest.py is the reference.
 *
 * A token of a word vocabulary is a whole word, so one look at the logits answers. At character level, a best-first search
 * spells words to their ends. A node is a beginning of a word that the model has read; its children are the characters that
 * may follow. */
#include "memcpy.h"
#include "text.h"
#include "words.h"

enum { CHILDREN = 32, LONGEST = 32, MOST = 100, ROOM = 4 * (LONGEST + 1) };

typedef struct {
  uint64_t cost, whole, next; /* of the node, with the end of the word, and with the next child */
  ks_micro_distribution distribution;
  uint16_t parent, token;
  uint8_t place, length, taken, children; /* length: characters after the text; taken: children that were tried */
  bool is_whole;                          /* the end of the word is still to be tried */
  struct {
    uint16_t token;
    int16_t logit;
  } child[CHILDREN];
} node;

typedef char node_size_of_the_header[sizeof(node) <= 192 ? 1 : -1]; /* see keras_seq_export/micro/header.py */

typedef struct {
  ks_micro_decoder *decoder;
  const char *text; /* what is typed; its last `begun` bytes are the word that was begun */
  size_t size, begun;
  size_t wanted, found;
  ks_micro_suggestion *suggestions;
  size_t most_steps, count; /* count: of the nodes */
  int16_t *states;          /* those to go back to, and those of each node */
  node *nodes;
  uint8_t *kinds; /* of each token */
  char *inserts;
} search;

static size_t rounded(size_t bytes) { return (bytes + 7) / 8 * 8; }

static bool is_by_character(const ks_micro_model *model) { return model->vocabulary.level == KS_CHARACTERS; }

size_t ks_micro_suggest_bytes(const ks_micro_model *model, size_t count, size_t steps) {
  size_t states = model->states_size * sizeof(int16_t);
  if (!is_by_character(model)) return rounded(states);
  return (steps + 1) * sizeof(node) + rounded((steps + 2) * states) + rounded(model->vocabulary.count) + count * ROOM;
}

/* ---- what both have in common ---- */

static bool is_forbidden(const ks_micro_vocabulary *vocabulary, uint32_t token) {
  return token == vocabulary->pad || token == vocabulary->start || token == vocabulary->unknown;
}

/* Returns whether there is a suggestion with the same text: "and" and " and" show the same. */
static bool is_shown(const search *given, const char *insert, size_t size) {
  size_t skipped = !given->begun && size && *insert == ' ';
  for (size_t i = 0; i < given->found; i++) {
    const ks_micro_suggestion *other = &given->suggestions[i];
    size_t other_skipped = !given->begun && *other->insert == ' ';
    if (!ks_order(other->insert + other_skipped, other->size - other_skipped, insert + skipped, size - skipped)) return true;
  }
  return false;
}

static void add_suggestion(search *given, const char *insert, size_t size, uint64_t cost) {
  if (!is_shown(given, insert, size)) given->suggestions[given->found++] = (ks_micro_suggestion){insert, size, cost};
}

static int16_t *logits_of(const search *given) { return given->decoder->memory + given->decoder->model->output; }

/* ---- word and whitespace: one look ---- */

/* Returns whether a token may continue what was begun. <eos> has no text. */
static bool matches(const search *given, uint32_t token) {
  const ks_micro_vocabulary *vocabulary = &given->decoder->model->vocabulary;
  if (is_forbidden(vocabulary, token)) return false;
  if (token == vocabulary->eos) return !given->begun;
  ks_text found = ks_micro_text_of(vocabulary, token);
  return found.size >= given->begun &&
         !ks_order(found.text, given->begun, given->text + given->size - given->begun, given->begun);
}

/* Returns whether a matching token may be suggested. */
static bool is_candidate(const search *given, uint32_t token) {
  const ks_micro_vocabulary *vocabulary = &given->decoder->model->vocabulary;
  ks_text found = ks_micro_text_of(vocabulary, token);
  return token != vocabulary->eos && found.size > given->begun &&
         ks_is_word((ks_level)vocabulary->level, found.text, found.size);
}

/* Gives the candidates with the largest logits; the lower id comes first on a tie. */
static void look_up(search *given) {
  const ks_micro_model *model = given->decoder->model;
  int16_t *logits = logits_of(given);
  for (uint32_t id = 0; id < model->vocabulary.count; id++)
    if (!matches(given, id)) logits[id] = KS_MICRO_FORBIDDEN;
  ks_micro_distribution distribution = ks_micro_distribution_of(logits, model->vocabulary.count, model->logit_step);
  uint32_t previous = KS_MICRO_NONE;
  while (given->found < given->wanted) {
    uint32_t best = KS_MICRO_NONE;
    for (uint32_t id = 0; id < model->vocabulary.count; id++) {
      bool was_taken = previous != KS_MICRO_NONE &&
                       (logits[id] > logits[previous] || (logits[id] == logits[previous] && id <= previous));
      if (logits[id] == KS_MICRO_FORBIDDEN || was_taken || (best != KS_MICRO_NONE && logits[id] <= logits[best])) continue;
      if (is_candidate(given, id)) best = id;
    }
    if (best == KS_MICRO_NONE) return;
    ks_text found = ks_micro_text_of(&model->vocabulary, best);
    add_suggestion(given, found.text + given->begun, found.size - given->begun, ks_micro_cost(&distribution, logits[best]));
    previous = best;
  }
}

/* ---- char: best-first search to the end of the word ---- */

static uint64_t sum_of(uint64_t left, uint64_t right) {
  return left == KS_MICRO_IMPOSSIBLE || right == KS_MICRO_IMPOSSIBLE ? KS_MICRO_IMPOSSIBLE : left + right;
}

/* Sets the cost of the next child to be tried. */
static void set_next(node *given) {
  given->next = given->taken == given->children
                    ? KS_MICRO_IMPOSSIBLE
                    : sum_of(given->cost, ks_micro_cost(&given->distribution, given->child[given->taken].logit));
}

/* Keeps a character among the likeliest children; it comes after those that are as likely. */
static void insert_child(node *given, uint16_t token, int16_t logit) {
  if (given->children == CHILDREN && given->child[CHILDREN - 1].logit >= logit) return;
  if (given->children < CHILDREN) given->children++;
  size_t at = given->children - 1u;
  for (; at && given->child[at - 1].logit < logit; at--) given->child[at] = given->child[at - 1];
  given->child[at].token = token;
  given->child[at].logit = logit;
}

/* Completes a node, given the logits after it. */
static void expand(search *given, node *one) {
  const ks_micro_model *model = given->decoder->model;
  int16_t *logits = logits_of(given);
  uint64_t end = 0;
  for (uint32_t id = 0; id < model->vocabulary.count; id++)
    if (given->kinds[id] == KS_NEVER) logits[id] = KS_MICRO_FORBIDDEN;
  one->distribution = ks_micro_distribution_of(logits, model->vocabulary.count, model->logit_step);
  one->children = one->taken = 0;
  for (uint32_t id = 0; id < model->vocabulary.count; id++) {
    ks_kind kind = (ks_kind)given->kinds[id];
    if (kind == KS_NEVER) continue;
    if (kind != KS_LETTER && kind != KS_APOSTROPHE) end += ks_micro_weight(&one->distribution, logits[id]);
    if (one->length < LONGEST && ks_may_follow((ks_place)one->place, kind)) insert_child(one, (uint16_t)id, logits[id]);
  }
  one->is_whole = one->place == KS_INSIDE && one->length;
  one->whole = sum_of(one->cost, ks_micro_cost_of_any(&one->distribution, end));
  set_next(one);
}

/* Returns the node with the likeliest thing to try; the one that was made first on a tie; NULL if there is none. */
static node *likeliest(const search *given, uint64_t *cost) {
  node *best = NULL;
  *cost = KS_MICRO_IMPOSSIBLE;
  for (size_t i = 0; i < given->count; i++) {
    node *one = &given->nodes[i];
    uint64_t its = one->is_whole && one->whole <= one->next ? one->whole : one->next;
    if (its < *cost) {
      best = one;
      *cost = its;
    }
  }
  return best;
}

/* Adds the word that ends with a node, and with a last token if there is one. */
static void add_word(search *given, const node *last, uint32_t token, uint64_t cost) {
  const ks_micro_vocabulary *vocabulary = &given->decoder->model->vocabulary;
  char *end = given->inserts + (given->found + 1) * ROOM, *start = end;
  for (;;) {
    if (token != KS_MICRO_NONE) {
      ks_text found = ks_micro_text_of(vocabulary, token);
      start -= found.size;
      memcpy(start, found.text, found.size);
    }
    if (!last->length) break;
    token = last->token;
    last = &given->nodes[last->parent];
  }
  add_suggestion(given, start, (size_t)(end - start), cost);
}

static int16_t *states_of(const search *given, size_t number) {
  return given->states + (number + 1) * given->decoder->model->states_size;
}

static ks_micro_status add_node(search *given, uint16_t parent, uint16_t token, ks_kind kind, uint64_t cost) {
  ks_micro_restore(given->decoder, states_of(given, parent));
  ks_micro_status status = ks_micro_step(given->decoder, token);
  if (status) return status;
  node *one = &given->nodes[given->count];
  ks_micro_save(given->decoder, states_of(given, given->count));
  given->count++;
  one->cost = cost;
  one->parent = parent;
  one->token = token;
  one->place = (uint8_t)ks_place_after(kind);
  one->length = (uint8_t)(given->nodes[parent].length + 1);
  expand(given, one);
  return KS_MICRO_OK;
}

static void set_kinds(search *given) {
  const ks_micro_vocabulary *vocabulary = &given->decoder->model->vocabulary;
  for (uint32_t id = 0; id < vocabulary->count; id++) {
    ks_text found = ks_micro_text_of(vocabulary, id);
    ks_kind kind = id == vocabulary->eos ? KS_SIGN : ks_kind_of(found.text, found.size);
    given->kinds[id] = (uint8_t)(is_forbidden(vocabulary, id) ? KS_NEVER : kind);
  }
}

static ks_micro_status spell(search *given, ks_place place) {
  node *root = given->nodes, *one;
  uint64_t cost;
  set_kinds(given);
  ks_micro_save(given->decoder, states_of(given, 0));
  root->cost = 0;
  root->place = (uint8_t)place;
  root->length = 0;
  expand(given, root);
  given->count = 1;
  while (given->found < given->wanted && (one = likeliest(given, &cost))) {
    if (one->is_whole && one->whole <= one->next) {
      one->is_whole = false;
      add_word(given, one, KS_MICRO_NONE, cost);
      continue;
    }
    uint16_t token = one->child[one->taken].token;
    ks_kind kind = (ks_kind)given->kinds[token];
    one->taken++;
    set_next(one);
    if (kind == KS_WHOLE) {
      add_word(given, one, token, cost);
    } else if (given->count <= given->most_steps) {
      ks_micro_status status = add_node(given, (uint16_t)(one - given->nodes), token, kind, cost);
      if (status) return status;
    }
  }
  return KS_MICRO_OK;
}

/* ---- the answer ---- */

/* Checks all but the text, and divides the workspace. */
static ks_micro_status prepare(search *given, void *workspace, size_t bytes) {
  ks_micro_decoder *decoder = given->decoder;
  if (!decoder || !decoder->model || !given->suggestions) return KS_MICRO_BAD_ARGUMENT;
  const ks_micro_model *model = decoder->model;
  if (!model->vocabulary.count) return KS_MICRO_NOT_OF_TEXT;
  if (given->wanted < 1 || given->wanted > MOST || given->most_steps < 1 || given->most_steps > KS_MICRO_SEARCH_STEPS)
    return KS_MICRO_BAD_ARGUMENT;
  if (!workspace || (uintptr_t)workspace % sizeof(uint64_t)) return KS_MICRO_BAD_ARGUMENT;
  decoder->detail = ks_micro_suggest_bytes(model, given->wanted, given->most_steps);
  if (bytes < decoder->detail) return KS_MICRO_TOO_SMALL;
  size_t nodes = is_by_character(model) ? given->most_steps + 1 : 0;
  uint8_t *next = (uint8_t *)workspace + nodes * sizeof(node);
  given->nodes = workspace;
  given->states = (int16_t *)(void *)next;
  next += rounded((given->most_steps + 2) * model->states_size * sizeof(int16_t));
  given->kinds = next;
  given->inserts = (char *)next + rounded(model->vocabulary.count);
  return KS_MICRO_OK;
}

static ks_micro_status find_words(search *given, size_t *begun, size_t *found) {
  ks_micro_decoder *decoder = given->decoder;
  ks_micro_status status;
  ks_place place;
  *begun = given->begun = ks_begun_size((ks_level)decoder->model->vocabulary.level, given->text, given->size, &place);
  ks_micro_save(decoder, given->states);
  status = ks_micro_step(decoder, decoder->token);
  if (!status && is_by_character(decoder->model)) {
    status = spell(given, place);
  } else if (!status) {
    look_up(given);
  }
  ks_micro_restore(decoder, given->states);
  *found = given->found;
  return status;
}

/* Sets the arguments; an initializer would set all members, by a call of memset. */
static void set_arguments(search *given, ks_micro_decoder *decoder, const char *text, size_t size, size_t count, size_t steps,
                          ks_micro_suggestion *suggestions) {
  given->decoder = decoder;
  given->text = text;
  given->size = size;
  given->wanted = count;
  given->most_steps = steps;
  given->suggestions = suggestions;
  given->found = 0;
}

ks_micro_status ks_micro_suggest_next(ks_micro_decoder *decoder, const char *text, size_t size, size_t count, size_t steps,
                                      void *workspace, size_t bytes, ks_micro_suggestion *suggestions, size_t *found,
                                      size_t *begun) {
  if (!found || !begun) return KS_MICRO_BAD_ARGUMENT;
  *found = *begun = 0;
  search given;
  set_arguments(&given, decoder, text, size, count, steps, suggestions);
  ks_micro_status status = prepare(&given, workspace, bytes);
  if (!status) status = ks_micro_check_text(decoder, text, size);
  return status ? status : find_words(&given, begun, found);
}

ks_micro_status ks_micro_suggest(ks_micro_decoder *decoder, const char *text, size_t size, size_t count, size_t steps,
                                 void *workspace, size_t bytes, ks_micro_suggestion *suggestions, size_t *found, size_t *begun) {
  if (!found || !begun) return KS_MICRO_BAD_ARGUMENT;
  *found = *begun = 0;
  search given;
  set_arguments(&given, decoder, text, size, count, steps, suggestions);
  ks_micro_status status = prepare(&given, workspace, bytes);
  if (!status) status = ks_micro_check_text(decoder, text, size);
  if (status) return status;
  ks_place ignored;
  ks_level level = (ks_level)decoder->model->vocabulary.level;
  size_t context = level == KS_CHARACTERS ? size : size - ks_begun_size(level, text, size, &ignored);
  status = ks_micro_prompt(decoder, text, context);
  return status ? status : find_words(&given, begun, found);
}
