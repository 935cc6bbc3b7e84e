// The pages in a real Chromium, with script switched on and off: allowed works, taken back is refused within a second.
// Each page is looked at by axe as well. With a folder as second argument it leaves screenshots there.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import { authorize, balance, callback, dev, pkce, token } from "./edge.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const shots = process.argv[3];
const client = "ma_demo_public";

// Where the mini-app would be. Its callback leads on to another site, as many do.
const home = createServer((_, answer) => answer.end("back in the mini-app")).listen(0, "localhost");
const app = createServer((request, answer) => {
  const location = `http://localhost:${home.address().port}${request.url}`;
  answer.writeHead(302, { location }).end();
}).listen(new URL(callback).port, "127.0.0.1");
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });

async function look(page, name) {
  if (shots) await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
  if (!page.withScript) return;
  // The page's policy forbids scripts; the debugger's are none of the page's.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]), [], name);
}

async function signIn(page) {
  await page.getByLabel("User name").fill("alice");
  await page.getByLabel("Password").fill("demo");
  await page.getByRole("button", { name: "Sign in" }).click();
}

async function drive({ name, ...options }) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.withScript = options.javaScriptEnabled;

  const { verifier, challenge } = pkce();
  await page.goto(authorize(client, "user:read wallet:balance wallet:pay", challenge));
  await look(page, `${name}-sign-in`);
  await page.getByLabel("Password").fill("wrong");
  await page.getByLabel("User name").fill("alice");
  await page.getByRole("button", { name: "Sign in" }).click();
  assert.match(await page.getByRole("alert").innerText(), /do not go together/);
  await signIn(page);
  await look(page, `${name}-consent`);
  await page.getByLabel(/start payments/i).uncheck();
  await page.getByRole("button", { name: "Allow" }).click();
  await page.waitForURL((url) => url.port === String(home.address().port));
  assert.equal(await page.locator("body").innerText(), "back in the mini-app");
  const back = new URL(page.url());
  assert.equal(back.searchParams.get("state"), "s1");
  assert.equal(back.searchParams.get("iss"), dev.edge);
  const granted = await token({
    grant_type: "authorization_code", code: back.searchParams.get("code"), redirect_uri: callback, code_verifier: verifier,
  });
  assert.equal(granted.status, 200, JSON.stringify(granted));
  assert.equal(granted.scope, "user:read wallet:balance");
  assert.equal(await balance(granted.access_token), 200);

  await page.goto(`${dev.edge}/oauth2/apps`);
  await look(page, `${name}-apps`);
  await page.getByRole("button", { name: /Take back: see your balance/ }).click();
  const began = performance.now();
  while ((await balance(granted.access_token)) === 200) assert.ok(performance.now() - began < 1000, "still good after a second");
  assert.match(await page.getByRole("status").innerText(), /Taken back/);
  // The rest is left: the mini-app fetches it by its refresh token, and lacks what was taken back.
  const rest = await token({ grant_type: "refresh_token", refresh_token: granted.refresh_token });
  assert.equal(rest.scope, "user:read", JSON.stringify(rest));
  assert.equal(await balance(rest.access_token), 403);
  await page.getByRole("button", { name: /^Disconnect/ }).click();
  assert.match(await page.getByRole("main").innerText(), /No mini-app may use your account/);
  const refreshed = await token({ grant_type: "refresh_token", refresh_token: rest.refresh_token });
  assert.equal(refreshed.error, "invalid_grant");

  const form = new URLSearchParams({ client_id: client, scope: "wallet:balance" });
  const device = await (await fetch(`${dev.edge}/oauth2/device/authorization`, { method: "POST", body: form })).json();
  await page.goto(`${dev.edge}/oauth2/device`);
  await page.getByLabel("Code").fill("BCDF-GHJK");
  await page.getByRole("button", { name: "Continue" }).click();
  assert.match(await page.getByRole("alert").innerText(), /No device waits/);
  await look(page, `${name}-device`);
  await page.getByLabel("Code").fill(device.user_code.toLowerCase());
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("button", { name: "Allow" }).click();
  assert.match(await page.getByRole("main").innerText(), /Your device is connected/);
  const grant = "urn:ietf:params:oauth:grant-type:device_code";
  const connected = await token({ grant_type: grant, device_code: device.device_code });
  assert.equal(connected.status, 200, JSON.stringify(connected));
  assert.equal(await balance(connected.access_token), 200);
  await page.goto(`${dev.edge}/oauth2/apps`);
  await page.getByRole("button", { name: /^Disconnect/ }).click();

  await page.goto(`${dev.edge}/oauth2/authorize?client_id=ma_nobody&redirect_uri=https%3A%2F%2Fevil.example`);
  assert.ok(page.url().startsWith(dev.edge), "an unknown client is sent nowhere");
  await look(page, `${name}-error`);
  await context.close();
}

await drive({ name: "mobile", javaScriptEnabled: true, viewport: { width: 390, height: 844 } });
await drive({ name: "desktop", javaScriptEnabled: false, viewport: { width: 1100, height: 800 }, colorScheme: "dark" });
await browser.close();
app.close();
home.close();
