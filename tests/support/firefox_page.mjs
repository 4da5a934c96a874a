// Uses the page of export/web in Firefox as a person does, for tests/export/web/test_firefox.py: JSON in, what was seen as JSON out.
import { readFileSync } from "node:fs";
import puppeteer from "puppeteer-core";

const given = JSON.parse(readFileSync(0, "utf8"));
const problems = []; // errors of the page, and addresses elsewhere

async function until(condition, what) {
  const end = Date.now() + 60_000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`It did not happen in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The page in a profile of its own. */
class User {
  static async visit(browser, address) {
    const page = await (await browser.createBrowserContext()).newPage();
    page.on("pageerror", ({ message }) => problems.push(message));
    page.on("request", (request) => request.url().startsWith(given.address) || problems.push(request.url()));
    await page.setViewport({ width: 390, height: 844 });
    await page.goto(address);
    return new User(page);
  }

  constructor(page) {
    this.page = page;
  }

  text = () => this.page.$eval("#text", ({ value }) => value);
  label = () => this.page.$eval("#write", ({ textContent }) => textContent);
  status = () => this.page.$eval("#status", ({ value }) => value);
  focused = () => this.page.evaluate(() => document.activeElement.id);
  /** Returns the width of the text, and whether it is longer than the screen. */
  measures = () =>
    this.page.evaluate(() => {
      const { scrollHeight, clientHeight } = document.getElementById("main");
      return [document.getElementById("text").clientWidth, scrollHeight > clientHeight];
    });
  error = () => this.page.$eval("#error", ({ textContent }) => textContent);

  /** Returns what is written on buttons, by their parts. */
  labels = (selector) =>
    this.page.$$eval(selector, (all) => all.map((one) => [...one.children].map(({ textContent }) => textContent)));

  async tap(selector, index = 0) {
    const elements = await this.page.$$(selector);
    await elements[index].tap();
  }

  async ready() {
    const isReady = () => !document.getElementById("write").disabled && !document.querySelector(".stop");
    await until(() => this.page.evaluate(isReady), "the page is ready");
  }

  async suggested() {
    const isIdle = () =>
      new Promise((resolve) => setTimeout(() => resolve(document.getElementById("suggestions").ariaBusy === "false")));
    await until(() => this.page.evaluate(isIdle), "suggestions");
  }

  async press(...keys) {
    for (const key of keys) await this.page.keyboard.down(key);
    for (const key of keys.reverse()) await this.page.keyboard.up(key);
  }

  /** Types a text in the place of what is there. */
  async type(text) {
    await this.page.focus("#text");
    await this.press("Control", "a");
    await this.page.keyboard.type(text);
    await this.suggested();
  }

  async fill(values) {
    for (const [name, value] of Object.entries(values)) {
      await this.page.$eval(
        `#${name}`,
        (field, text) => {
          field.value = text;
          field.dispatchEvent(new Event("input", { bubbles: true }));
        },
        String(value),
      );
    }
  }

  /** Returns the text when the model has written all of it. */
  async written() {
    await until(async () => /Write goes on|ended it/.test(await this.status()), "the text is written");
    return this.text();
  }
}

async function opening(user) {
  await until(async () => (await user.status()).startsWith("Written on your device"), "the first lines");
  const isWritten = await user.page.$$eval("#backdrop .written", (all) => all.map((one) => one.textContent).join(""));
  return { text: await user.text(), written: isWritten, chip: await user.page.$eval("#model", (it) => it.textContent) };
}

async function suggestions(user) {
  const found = [];
  for (const text of given.typed) {
    await user.type(text);
    found.push(await user.labels("#suggestions button"));
  }
  await user.tap("#suggestions button");
  return { found, tapped: await user.text(), focused: await user.focused() };
}

async function seeded(user) {
  await user.tap("#open_more");
  await user.tap("#new_seed");
  await user.fill(given.settings);
  await user.tap("#show_tokens");
  await user.tap("#open_more");
  await user.type(given.prompt);
  await user.tap("#write");
  return user.written();
}

/** Taps a word that the model wrote, and what else it could have been. */
async function alternative(user) {
  const place = await user.page.evaluate(() => {
    const parts = [...document.querySelectorAll("#backdrop span")];
    const index = parts.findIndex((one, at) => at > 4 && one.classList.contains("odd"));
    const { left, right, top, bottom } = parts[index].getClientRects()[0];
    const before = parts.slice(0, index).map(({ textContent }) => textContent).join("");
    return { x: (left + right) / 2, y: (top + bottom) / 2, before, word: parts[index].textContent };
  });
  await user.page.touchscreen.tap(place.x, place.y);
  await until(() => user.page.$("#alternatives:not([hidden])"), "the alternatives");
  const shown = await user.labels("#alternatives .list button");
  const current = await user.page.$eval("[aria-current] span", ({ textContent }) => textContent);
  const other = shown.findIndex(([name]) => name !== current && /^[a-z]+$/.test(name));
  const [before, focused] = [await user.text(), await user.focused()];
  await user.tap("#alternatives .list button", other);
  await until(async () => (await user.text()) !== before, "another text");
  const seen = { before: place.before, word: place.word, shown, current, other, focused, text: await user.written() };
  await user.tap("#undo");
  return { ...seen, undone: await user.text() };
}

async function stop(user) {
  await user.fill({ max_tokens: 1_000_000 });
  await user.type(given.prompt);
  await user.tap("#write");
  await until(async () => (await user.label()) === "Stop" && (await user.text()).length > 1000, "it writes");
  await user.tap("#write");
  await until(async () => (await user.label()) === "Continue", "it stops");
  return user.text();
}

/** Copies a link; returns it as it is pasted into the text, which is then as before. */
async function link(user) {
  await user.tap("#share");
  await until(async () => (await user.status()).includes("copied"), "the link is copied");
  await user.page.focus("#text");
  await user.press("Control", "a");
  await user.press("Control", "v");
  const pasted = await user.text();
  await user.press("Control", "z");
  return pasted;
}

async function run(browser) {
  const user = await User.visit(browser, given.address);
  const seen = { opening: await opening(user), measures: [await user.measures()] };
  Object.assign(seen, { suggestions: await suggestions(user), seeded: await seeded(user) });
  seen.alternative = await alternative(user);
  seen.stopped = await stop(user);
  seen.measures.push(await user.measures());
  seen.link = await link(user);
  seen.afterPasting = await user.text();
  await user.page.reload();
  await user.ready();
  seen.reloaded = await user.text();
  const other = await User.visit(browser, seen.link);
  await until(async () => (await other.status()).includes("Write goes on"), "the text of the link");
  seen.linked = await other.text();
  seen.errors = [await user.error(), await other.error()];
  return seen;
}

const browser = await puppeteer.launch({
  browser: "firefox",
  executablePath: given.firefox,
  extraPrefsFirefox: { "ui.prefersReducedMotion": 1 }, // Texts appear at once, which saves time.
});
try {
  process.stdout.write(JSON.stringify({ ...(await run(browser)), problems }));
} finally {
  await browser.close();
}
