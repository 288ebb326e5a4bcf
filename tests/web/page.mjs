// The page in a real browser: page.mjs QTF MODEL [FOLDER for screenshots]
import { createRequire } from "node:module";
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { check, load, skip, startServer } from "./server.mjs";

const kBrowser = "/usr/bin/chromium";
if (!existsSync(kBrowser)) skip(`there is no ${kBrowser}`);
const { chromium } = await load("playwright-core");
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const [qtf, model, pictures] = process.argv.slice(2);
// A copy with a report and records, beside its dense parent.
const made = mkdtempSync(join(tmpdir(), "qtf-page-"));
cpSync(model, made, { recursive: true });
writeFileSync(join(made, "report.html"), "<!doctype html><title>Report</title><h1>What was lost where</h1>");
execFileSync(qtf, ["generate", made, "--prompt", "The", "--tokens", "2", "--audit", join(made, "audit.sqlite")]);
const dense = join(dirname(model), "wikitext2-dense");
const server = await startServer(qtf, made, {}, ["--parent", dense, "--name", basename(model)]);
const browser = await chromium.launch({ executablePath: kBrowser, args: ["--no-sandbox"] });

async function open(viewport, colorScheme) {
  const page = await browser.newPage({ viewport, colorScheme, bypassCSP: false });
  page.failures = [];
  page.on("console", (message) => { if (message.type() === "error") page.failures.push(message.text()); });
  page.on("pageerror", (error) => page.failures.push(String(error)));
  await page.goto(`${server.url}/`);
  await page.waitForFunction(() => document.querySelectorAll("#facts li").length > 0);
  return page;
}

const finished = (page) => page.waitForFunction(() => / tokens\.$/.test(document.getElementById("message").textContent) && document.getElementById("stop").disabled, null, { timeout: 60_000 });
const tokensOf = (page) => page.$$eval("#text span", (spans) => spans.map((span) => span.textContent));

try {
  const page = await open({ width: 1280, height: 900 }, "light");
  await page.fill("#prompt", "The history of the ");
  await page.keyboard.press("Control+Enter");
  await finished(page);
  const tokens = await tokensOf(page);
  check(tokens.length === 64, "64 tokens are shown after Ctrl+Enter");
  check(await page.$$eval("#text span", (spans) => new Set(spans.map((span) => span.style.getPropertyValue("--entropy"))).size > 8), "they are coloured by their entropy");
  check(/tokens\/s$/.test(await page.textContent("#speed")), "the speed is shown");
  check(/ J \(.*(modelled|measured)\)$|not known/.test(await page.textContent("#energy")), "the energy is shown with its tier");

  await page.focus("#text");
  for (let i = 0; i < 3; ++i) await page.keyboard.press("ArrowRight");
  check((await page.textContent("#token-summary")).includes(`“${tokens[2]}”`), "the arrow keys go from token to token");
  check((await page.$$("#layers tbody tr")).length === 4, "a row a layer is shown of it");
  await page.hover("#text span:nth-of-type(6)");
  check((await page.textContent("#token-summary")).includes(`“${tokens[5]}”`), "so does the pointer");
  check((await page.$$("#levels rect")).length > 0 && (await page.$("#entropies polyline")) !== null, "both charts are drawn");

  await page.waitForSelector("#compared tbody tr");
  check((await page.textContent("#parent-text")).length > 100, "the dense parent writes the same prompt");
  check((await page.$$eval("#compared thead th", (cells) => cells.map((cell) => cell.textContent).join())) === "wikitext2-nested,wikitext2-dense", "both stand side by side");
  check((await page.$$eval("#compared tbody tr", (rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)))).every(([, mine, theirs]) => mine !== "" && theirs !== ""), "with speed, first token, joules and megabytes");
  await page.uncheck("#compare");

  await page.click("#records summary");
  await page.waitForFunction(() => /^\d+ records, consistent; root [0-9a-f]{64}/.test(document.getElementById("audit").textContent));
  check(true, "the state of the records is a click away");
  const report = await browser.newPage();
  await report.goto(`${server.url}/${await page.getAttribute("#report", "href")}`);
  check((await report.textContent("h1")) === "What was lost where", "so is the compression's report");
  await report.close();

  await page.hover("#text span:nth-of-type(6)");
  await page.click("#text span:nth-of-type(6)");
  await page.waitForSelector("#why h3");
  check((await page.$$("#why h3")).length === 4, "a click on a token explains its rank in each layer");
  check(/level \d of 4/.test(await page.textContent("#why")) && /explained by the built-in template: \d+ of \d+ statements verified/.test(await page.textContent("#why")), "in sentences with its numbers, and who wrote them");
  await page.focus("#text");
  await page.keyboard.press("ArrowRight");
  check(await page.isHidden("#why"), "another token's explanation waits to be asked for");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#why h3");
  check(true, "Enter asks for it");

  await page.fill("#prompt", "The history of the ");
  await page.click("#run");
  await finished(page);
  check((await tokensOf(page)).join("") === tokens.join(""), "the same seed writes the same text");
  const level = await page.textContent("#level");
  await page.$eval("#rank", (slider) => { slider.value = "0.1"; slider.dispatchEvent(new Event("input")); slider.dispatchEvent(new Event("change")); });
  await page.waitForTimeout(50);
  await finished(page);
  check(Number(await page.textContent("#level")) < Number(level), "a smaller mean rank takes smaller levels at once");

  const setLatency = (ms) => page.$eval("#latency", (field, value) => { field.value = value; field.dispatchEvent(new Event("change")); }, ms);
  await setLatency("0.000001");
  await page.waitForTimeout(50);
  await finished(page);
  check((await page.textContent("#budget")).startsWith("over, with the smallest ranks"), "a time that cannot be kept is told");
  await setLatency("10000");
  await page.waitForTimeout(50);
  await finished(page);
  check((await page.textContent("#budget")).startsWith("kept, at mean rank 0.10"), "a budget that is kept too");
  await setLatency("");
  await page.waitForTimeout(50);
  await finished(page);
  check(await page.isHidden("#budget"), "without a budget there is nothing to tell");

  await page.$eval("#tokens", (slider) => { slider.value = slider.max; slider.dispatchEvent(new Event("input")); });
  await page.click("#run");
  await page.waitForFunction(() => document.querySelectorAll("#text span").length > 2);
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => document.getElementById("message").textContent === "Stopped.");
  check(true, "Escape stops it");

  await page.fill("#prompt", "word ".repeat(300));
  await page.click("#run");
  await page.waitForSelector("#message.bad");
  check((await page.textContent("#message")).includes("context"), "what the server refuses is told");
  page.failures = page.failures.filter((text) => !text.includes("400"));

  for (const [name, viewport, scheme] of [["desktop", { width: 1280, height: 900 }, "light"], ["desktop-dark", { width: 1280, height: 900 }, "dark"], ["phone", { width: 390, height: 844 }, "light"]]) {
    const shown = await open(viewport, scheme);
    await shown.fill("#prompt", "The history of the ");
    await shown.click("#run");
    await finished(shown);
    await shown.waitForSelector("#compared tbody tr");
    await shown.click("#text span:nth-of-type(6)");
    await shown.waitForSelector("#why h3");
    check(await shown.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), `nothing is cut off at ${name}`);
    if (pictures) await shown.screenshot({ path: `${pictures}/${name}.png`, fullPage: name === "phone" });
    check(shown.failures.length === 0, `no error on the console at ${name}: ${shown.failures}`);
    await shown.close();
    const checked = await browser.newPage({ viewport, colorScheme: scheme, bypassCSP: true });
    await checked.goto(`${server.url}/`);
    await checked.waitForFunction(() => document.querySelectorAll("#facts li").length > 0);
    await checked.fill("#prompt", "The ");
    await checked.click("#run");
    await finished(checked);
    await checked.waitForTimeout(300);  // tokens fade in
    await checked.evaluate(axe);
    const { violations } = await checked.evaluate(() => window.axe.run());
    check(violations.length === 0, `axe finds nothing at ${name}: ${violations.map((v) => `${v.id} ${v.nodes[0].html.slice(0, 120)}`)}`);
    await checked.close();
  }
  check(page.failures.length === 0, `no error on the console: ${page.failures}`);
} finally {
  await browser.close();
  server.stop();
  rmSync(made, { recursive: true });
}
