// The page: connects the text, the model, the settings and the buttons.

import { Alternatives } from "./alternatives.js";
import { fillCard } from "./card.js";
import { Desk } from "./desk.js";
import { Editor } from "./editor.js";
import { at, attempt, showError, showStatus } from "./elements.js";
import { listenForKeys, staysAboveKeyboard } from "./keys.js";
import { isLearnedFile, LearnedPanel } from "./learned_panel.js";
import { Learner } from "./learner.js";
import { Marks } from "./marks.js";
import { Models } from "./models.js";
import { register } from "./offline.js";
import { listenForFiles } from "./opening.js";
import { isInsideWord, readable, spaceAfterWord } from "./reading.js";
import { save, saved } from "./saved.js";
import { Settings } from "./settings.js";
import { copy, share } from "./sharing.js";
import { SuggestionRow } from "./suggestions.js";
import { Visit } from "./visit.js";

const LEARNED_LINK = "It has all of the text, because others’ models have not learned from you.";
const NEAR = 160; // pixels from the end of the text, within which the page follows it

const editor = new Editor(at("text"), at("backdrop"));
const settings = new Settings(at);
const desk = new Desk(editor, settings);
const models = new Models();
const marks = new Marks(at("unknown"), editor);
const suggestions = new SuggestionRow(at("suggestions"), (insert) => editor.insertWord(insert));
const alternatives = new Alternatives(at("alternatives"), takeAlternative);
const learner = new Learner(editor, desk);
const panel = new LearnedPanel(at, learner);
const visit = new Visit({ editor, desk, settings, models, learner });

// ---- what is around the text ----

let isDue = false;

/** Brings what is around the text up to date, once for several changes. */
function update() {
  if (isDue) return;
  isDue = true;
  queueMicrotask(() => {
    isDue = false;
    refresh();
    remember();
    if (desk.isWriting) showNoMarks();
    if (desk.isWriting || !models.model) return suggestions.clear();
    marks.show(models.model);
    const caret = editor.selection.start;
    if (isInsideWord(editor.text, caret) || (desk.hasEndedLine && caret === editor.text.length)) return suggestions.clear();
    const space = spaceAfterWord(models.model, editor.document, caret);
    suggestions.seek(models.model, readable(models.model, editor.text.slice(0, caret)), space).catch(showError);
  });
}

/** What the model does not know is not sought while it writes, and what was found may be of another text. */
function showNoMarks() {
  at("unknown").hidden = true;
  if (!editor.marked.length) return;
  editor.marked = [];
  editor.draw();
}

/** Gives the focus to the text when what had it is gone. On a phone, this would open the keyboard. */
function focusText() {
  if (matchMedia("(pointer: fine)").matches) at("text").focus();
}

function refresh() {
  const { activeElement } = document;
  at("write").textContent = desk.label;
  at("write").classList.toggle("stop", desk.isWriting);
  at("write").disabled = !models.model;
  at("again").disabled = !desk.canTryAgain;
  at("undo").disabled = !editor.document.canUndo;
  at("redo").disabled = !editor.document.canRedo;
  for (const id of ["clear", "copy", "share"]) at(id).disabled = editor.text === "" || !models.model;
  if (activeElement?.disabled) focusText();
}

function remember() {
  if (desk.model) save(state);
}

/** What the next visit begins with. */
function state() {
  const view = { ...editor.view, isMore: !at("more").hidden };
  const model = desk.model.config.model_sha256; // that of the text
  const isLearning = learner.isOn;
  return { document: editor.document.state(), desk: desk.state(), settings: settings.state(), view, model, isLearning };
}

/** Keeps the end of the text in sight while the model writes, unless the user has scrolled up. */
function follow() {
  const box = at("main");
  if (box.scrollHeight - box.scrollTop - box.clientHeight < NEAR) box.scrollTop = box.scrollHeight;
}

editor.addEventListener("edit", ({ detail }) => {
  if (detail.byUser) {
    showError(null);
    showStatus("");
    closeAlternatives();
  } else {
    follow();
  }
  update();
});
editor.addEventListener("caret", () => {
  closeAlternatives();
  update();
});
desk.addEventListener("state", update);
desk.addEventListener("status", ({ detail }) => showStatus(detail));
desk.addEventListener("error", ({ detail }) => showError(new Error(`${models.name}: ${detail.message}`, { cause: detail })));

// ---- alternatives ----

async function openAlternatives(token) {
  if (!token || !models.model || desk.isWriting || !desk.isOwn(token)) return;
  const { text, view } = editor;
  const before = readable(models.model, text.slice(0, token.start));
  const isOpen = await alternatives.open(models.model, before, { ...token, text: text.slice(token.start, token.end) }, view.separate);
  if (!isOpen) return;
  at("suggestions").hidden = true;
  showStatus(alternatives.title);
}

function closeAlternatives() {
  const hadFocus = at("alternatives").contains(document.activeElement);
  if (alternatives.isOpen) showStatus("");
  alternatives.close();
  at("suggestions").hidden = false;
  if (hadFocus) focusText();
}

function takeAlternative(token, alternative) {
  closeAlternatives();
  attempt(() => desk.takeAlternative(token, alternative));
}

editor.addEventListener("tap", ({ detail }) => attempt(() => openAlternatives(detail.token)));
at("alternatives").querySelector(".close").addEventListener("click", closeAlternatives);

// ---- buttons and keys ----

function writeOrStop() {
  visit.userHasActed();
  if (desk.isWriting) return desk.stop();
  closeAlternatives();
  return attempt(() => desk.write());
}

function escape() {
  if (alternatives.isOpen) closeAlternatives();
  else if (desk.isWriting) desk.stop();
  else if (!at("more").hidden) {
    if (at("more").contains(document.activeElement)) at("open_more").focus();
    showMore(false);
  }
}

const actions = {
  write: writeOrStop,
  again: () => desk.tryAgain(),
  undo: () => editor.undo(),
  redo: () => editor.redo(),
  clear: () => editor.replace(0, editor.text.length, ""),
  copy: async () => showStatus(await copy(editor.text, "The text")),
  copy_seed: async () => showStatus(await copy(at("seed").value, "The seed")),
  share: async () => {
    const recipe = desk.recipe();
    if (!recipe) return;
    const model = { name: models.name, sha256: models.model.config.model_sha256 };
    const done = await share({ ...recipe, model });
    showStatus(done && recipe.hasLearned ? `${done} ${LEARNED_LINK}` : done);
  },
  open_more: () => showMore(at("more").hidden),
  forget: () => panel.forget(),
  unforget: () => panel.undo(),
  save_learned: () => panel.save(),
  open_learned: () => at("file").click(),
  model: showCard,
  own_model: () => {
    at("card").close();
    return visit.openOwn();
  },
};
for (const [id, act] of Object.entries(actions)) at(id).addEventListener("click", () => (id === "write" ? act() : attempt(act)));
// The text keeps the focus.
for (const id of ["undo", "redo"]) at(id).addEventListener("pointerdown", (event) => event.preventDefault());
listenForKeys({
  field: at("text"),
  writeOrStop,
  escape,
  undo: actions.undo,
  redo: actions.redo,
  alternatives: () => attempt(() => openAlternatives(editor.document.tokenAt(editor.selection.start - 1))),
});
staysAboveKeyboard();

// ---- the model ----

const [cardActions, ownButton] = [at("card_actions"), at("own_model")]; // They are not in the page while the card is filled anew.

function showCard() {
  const { model, name, bytes } = models;
  const dialog = at("card");
  fillCard(dialog, model && { card: model.card, config: model.config, vocabulary: model.vocabulary, name, bytes });
  dialog.append(cardActions);
  ownButton.hidden = !visit.canOpenOwn;
  dialog.showModal();
}

async function openFile(file) {
  return (await isLearnedFile(file)) ? panel.openFile(file) : visit.openFile(file);
}

listenForFiles({
  button: at("open_file"),
  onFile: (file) => {
    at("card").close();
    attempt(() => openFile(file));
  },
  onError: (error) => {
    at("card").close();
    showError(error);
  },
});
models.addEventListener("loading", ({ detail }) => {
  at("progress").hidden = false;
  at("progress").removeAttribute("value");
  showStatus(`Opening ${detail} …`);
});
models.addEventListener("progress", ({ detail }) => (at("progress").value = detail));
models.addEventListener("done", () => {
  at("progress").hidden = true;
  showStatus("");
});
learner.addEventListener("change", () => {
  suggestions.renew();
  update();
});
learner.addEventListener("error", ({ detail }) => showError(detail));
visit.onOpened = () => {
  panel.open(models.model, models.name);
  closeAlternatives();
  update();
};

// ---- more ----

function showMore(isOpen) {
  at("more").hidden = !isOpen;
  at("open_more").ariaExpanded = String(isOpen);
  remember();
}

function showView({ colours = false, separate = false, isMore = false } = {}) {
  editor.view = { colours, separate };
  desk.countsTokens = separate;
  at("colours").checked = colours;
  at("show_tokens").checked = separate;
  at("legend").hidden = !colours;
  editor.draw();
  if (isMore) showMore(true);
}

for (const id of ["colours", "show_tokens"]) {
  at(id).addEventListener("change", () => {
    showView({ colours: at("colours").checked, separate: at("show_tokens").checked });
    remember();
  });
}
at("new_seed").addEventListener("change", remember);
settings.addEventListener("invalid", () => showMore(true));
settings.addEventListener("change", () => {
  showError(null);
  remember();
});

register();
const kept = saved();
const before = kept?.desk && kept.view ? kept : null; // a state that is not whole is of no use
showView(before?.view);
learner.turn(before?.isLearning === true);
refresh();
visit.start(before);
