// Tells a story to a page in Firefox, and takes pictures: node firefox.mjs NODE_MODULES JSON. See story.py.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, json] = process.argv.slice(2);
const found = createRequire(`${modules}/`).resolve("puppeteer-core");
const { default: puppeteer } = await import(pathToFileURL(found));
const { program, address, story, questions, views } = JSON.parse(json);

for (const scheme of ["light", "dark"]) {
  const dark = Number(scheme === "dark"); // this Firefox cannot change it later
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: program,
    extraPrefsFirefox: { "layout.css.prefers-color-scheme.content-override": 1 - dark },
  });
  try {
    const page = await browser.newPage();
    await page.goto(address);
    await page.evaluate(`(${story})(${JSON.stringify(questions)})`);
    const trouble = await page.evaluate("document.querySelector('.turn .trouble')?.textContent");
    if (trouble) throw new Error(trouble);
    for (const { width, height, path } of views.filter((view) => view.scheme === scheme)) {
      await page.setViewport({ width, height });
      await new Promise((done) => setTimeout(done, 300));
      const wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
      if (wide > 0) throw new Error(`at ${width} pixels it is wider by ${wide}`);
      await page.screenshot({ path });
    }
  } finally {
    await browser.close();
  }
}
