// Does in Firefox what a person does with the chat application, and prints what was seen: node firefox_chat.mjs NODE_MODULES JSON.
// See test_firefox_page.py.
import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, json] = process.argv.slice(2);
const found = createRequire(`${modules}/`).resolve("puppeteer-core");
const { default: puppeteer } = await import(pathToFileURL(found));
const { program, address, downloads } = JSON.parse(json);

const browser = await puppeteer.launch({
  browser: "firefox",
  executablePath: program,
  extraPrefsFirefox: { "browser.download.dir": downloads, "browser.download.folderList": 2 },
});
const seen = { complaints: [] };
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => seen.complaints.push(String(error)));
  page.on("console", (message) => message.type() === "error" && seen.complaints.push(message.text()));

  const read = (work, ...given) => page.evaluate(work, ...given);
  /** Wait until a function of the page tells true, or a number that is not 0. */
  const until = async (work, ...given) => {
    for (const end = Date.now() + 30_000; Date.now() < end; await new Promise((next) => setTimeout(next, 20))) {
      if (await read(work, ...given)) return;
    }
    throw new Error(`waited in vain for ${work}; ${await read(() => document.body.innerText)}`);
  };
  const said = () => read(() => [...document.querySelectorAll(".turn .body > .words")].map((one) => one.textContent.trim())); // not innerText: of what is scrolled away it says nothing
  const idle = () => until(() => document.querySelector("#stop").hidden && document.querySelectorAll(".turn:last-child .foot button").length);
  const ask = async (words) => {
    await page.type("#prompt", words);
    await page.keyboard.press("Enter");
    await until(() => document.querySelectorAll(".turn").length > 0);
  };

  await page.goto(address);
  await until(() => document.querySelector("#model").value === "fake");

  await ask("Markdown");
  await idle();
  seen.bold = await read(() => document.querySelector(".turn strong")?.textContent);

  await ask("A long one");
  const length = () => read(() => document.querySelector(".turn:last-child .words").textContent.length);
  seen.lengths = [];
  for (let last = 0; seen.lengths.length < 3; ) {
    await until((last) => document.querySelector(".turn:last-child .words").textContent.length > last, last);
    seen.lengths.push((last = await length()));
  }
  await page.click("#stop");
  await idle();
  seen.ending = await read(() => document.querySelector(".turn:last-child .ending")?.textContent);

  const choose = async (name) => {
    await page.click(".talks summary");
    await read((name) => [...document.querySelectorAll(".talks .menu button")].find((one) => one.textContent === name).click(), name);
  };
  await choose("Rename");
  await until(() => document.querySelectorAll(".talks li > input").length > 0);
  await page.keyboard.type("Seen in Firefox");
  await page.keyboard.press("Enter");
  await until(() => document.querySelector(".talks .open")?.textContent === "Seen in Firefox");

  await choose("Export as JSON");
  for (const end = Date.now() + 20_000; !readdirSync(downloads).some((name) => name.endsWith(".json")); ) {
    if (Date.now() > end) throw new Error("no file was written");
    await new Promise((next) => setTimeout(next, 50));
  }

  seen.before = await said();
  await page.reload();
  await until(() => document.querySelectorAll(".turn").length === 4);
  seen.after = await said();
  seen.title = await read(() => document.title);
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
