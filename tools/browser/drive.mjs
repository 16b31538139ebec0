// node drive.mjs chrome|firefox EXECUTABLE ADDRESS MODULES: opens a page and prints its events as JSON lines:
// {kind: "console" | "pageerror", data: text}, and what the page itself puts into its array `messages`, until standard
// input ends.
import { createRequire } from "node:module";
import process from "node:process";
import { pathToFileURL } from "node:url";

const [browser, executablePath, address, modules] = process.argv.slice(2);
const found = createRequire(`${modules}/`).resolve("puppeteer-core");
const { default: puppeteer } = await import(pathToFileURL(found));
const args = {
  chrome: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
  ],
  firefox: [],
}[browser];
const say = (kind, data) => process.stdout.write(`${JSON.stringify({ kind, data })}\n`);
let over = false;
process.stdin.on("end", () => (over = true)).resume();

const driven = await puppeteer.launch({ browser, executablePath, args, headless: true, protocolTimeout: 600_000 });
try {
  say("version", await driven.version());
  const page = await driven.newPage();
  page.on("console", (message) => say("console", `${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => say("pageerror", String(error)));
  await page.goto(address);
  while (!over) {
    for (const { kind, data } of await page.evaluate(() => globalThis.messages?.splice(0) ?? [])) say(kind, data);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
} finally {
  await driven.close();
}
