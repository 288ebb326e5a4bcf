// A `qtf serve` on a free port, for the tests of this folder.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

export async function startServer(qtf, model, environment = {}, flags = []) {
  const process_ = spawn(qtf, ["serve", model, "--port", "0", ...flags], { env: { ...process.env, ...environment } });
  for await (const line of createInterface({ input: process_.stdout })) {
    const found = /^serving at (http:\/\/127\.0\.0\.1:\d+)$/.exec(line);
    if (found) return { url: found[1], stop: () => process_.kill() };
    break;
  }
  process_.kill();
  throw new Error("the server did not start");
}

export function skip(why) {
  console.log(`skipped: ${why}`);
  process.exit(77);
}

// A package, or the test is skipped.
export function load(name) {
  return import(name).catch(() => skip(`${name} is missing: npm ci --prefix tests/web`));
}

// Fails the test's process with what was expected.
export function check(condition, what) {
  if (!condition) throw new Error(`expected ${what}`);
  console.log(`ok: ${what}`);
}
