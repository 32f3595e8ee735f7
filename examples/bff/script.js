"use strict";

// The page knows of the session what the server says of it. Everything is put into it as text.

const SHOWN_CALLS = 6;
const PATIENCE_MS = 10_000;
const REPEAT_MS = 2_000;

const $ = (id) => document.getElementById(id);

/** What the server says of the session; `null` if there is none. */
let session = null;
/** When it said so, by `performance.now()`. */
let toldAt = 0;
/** What the user asked for last; it begins when what came before has ended. */
let last = Promise.resolve();
/** How much of that has not ended. */
let pending = 0;

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
const timeOfDay = (date) => date.toLocaleTimeString("en-GB");
const plural = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;

/** Sends a request; the status is 0 if there is no response. */
async function send(method, path, body) {
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const response = await fetch(path, { method, body, signal });
    const isJson = response.headers.get("content-type")?.startsWith("application/json");
    return { status: response.status, body: isJson ? await response.json() : null };
  } catch {
    return { status: 0, body: null };
  }
}

function say(text, kind = "") {
  const status = $("status");
  status.className = `notice ${kind}`;
  status.textContent = text;
}

function sayFailure(what, status) {
  say(status ? `${what}: the server answered ${status}.` : `${what}: the server does not answer.`, "bad");
}

function show(told) {
  session = told;
  toldAt = performance.now();
  $("logged-out").hidden = session !== null;
  $("logged-in").hidden = session === null;
  if (session) {
    $("subject").textContent = session.subject;
    $("scopes").replaceChildren(...session.scopes.map((scope) => element("li", scope)));
    $("refreshes").textContent = session.refreshRequests;
    $("margin").textContent = `${session.marginMs / 1000} s`;
    const age = session.lifeMs - session.expiresInMs;
    $("issued").textContent = timeOfDay(new Date(Date.now() - age));
    $("life-bar").max = session.lifeMs;
  } else {
    $("repeat").checked = false;
  }
  tick();
  showReach();
}

function tick() {
  if (!session) return;
  const left = Math.max(0, session.expiresInMs - (performance.now() - toldAt));
  const due = left <= session.marginMs;
  $("life-bar").value = left;
  $("logged-in").classList.toggle("due", due);
  const rest = left > 0 ? `${seconds(left)} left` : "expired";
  $("life").textContent = due ? `${rest}: renewal due` : rest;
}

/** What a malicious script in this page would find. */
function showReach() {
  const stored = localStorage.length + sessionStorage.length;
  $("cookies").textContent = document.cookie || "empty";
  $("stored").textContent = stored ? plural(stored, "item") : "empty";
}

/** Adds a line to the list of responses. */
function note(status, text, detail) {
  const line = document.createElement("li");
  line.append(element("span", status || "–", `code ${status === 200 ? "good" : "bad"}`));
  line.append(element("span", text), element("time", timeOfDay(new Date())));
  if (detail) line.append(element("em", detail));
  $("calls").prepend(line);
  while ($("calls").childElementCount > SHOWN_CALLS) $("calls").lastElementChild.remove();
  $("no-calls").hidden = true;
}

const meaning = ({ status, body }) =>
  body?.message ?? { 0: "no response", 401: "log in first", 503: "try again later" }[status] ?? "refused";

/** Calls the API so many times at once. */
async function call(count) {
  const calls = Array.from({ length: count }, () => send("GET", "/api/hello"));
  const responses = await Promise.all(calls);
  const worst = responses.find(({ status }) => status !== 200) ?? responses[0];
  const told = responses.flatMap(({ status, body }) => (status === 200 ? [body.session] : []));
  const text = count > 1 ? `${told.length} of ${count}: ${meaning(worst)}` : meaning(worst);

  // Responses overtake each other. The count only grows, and the newest token has the most life.
  const refreshRequests = Math.max(...told.map((it) => it.refreshRequests));
  const expiresInMs = Math.max(...told.map((it) => it.expiresInMs));
  const more = session && told.length ? refreshRequests - session.refreshRequests : 0;
  note(worst.status, text, more ? `after ${plural(more, "refresh request")} to Authlete` : "");

  if (worst.status === 401) {
    const ended = session !== null;
    show(null);
    say(ended ? "The session has ended: log in again." : "The API answered 401: log in first.", "warn");
  } else if (told.length) {
    show({ ...told[0], refreshRequests, expiresInMs });
    say("");
  }
}

/** Asks the server for the session. */
async function load() {
  const { status, body } = await send("GET", "/session");
  show(status === 200 ? body : null);
  say("");
  if (status !== 200 && status !== 401) sayFailure("The session is unknown", status);
}

async function logIn(form) {
  if (session) return;
  const { status } = await send("POST", "/login", new URLSearchParams(new FormData(form)));
  if (status !== 204) return sayFailure("You are not logged in", status);
  await load();
  if (session) return $("call").focus();
  if (!$("status").textContent) say("This browser did not keep the session's cookie. Browsers accept it over HTTPS, and some of them "
    + "from http://localhost, too: open that, or put a proxy that terminates TLS in front.", "bad");
}

async function logOut() {
  if (!session) return;
  const { status } = await send("POST", "/logout");
  if (status !== 204) return sayFailure("You may still be logged in", status);
  show(null);
  say("You are logged out. The tokens are revoked at Authlete.", "good");
  $("log-in").querySelector(":checked").focus();
}

/** Runs one thing at a time. */
function run(action) {
  pending += 1;
  document.body.setAttribute("aria-busy", "true");
  const failed = (error) => {
    console.error(error);
    say("This page failed: reload it.", "bad");
  };
  last = last.then(action).catch(failed).finally(() => {
    pending -= 1;
    if (pending === 0) document.body.removeAttribute("aria-busy");
  });
}

$("log-in").addEventListener("submit", (event) => {
  event.preventDefault();
  run(() => logIn(event.target));
});
$("log-out").addEventListener("click", () => run(logOut));
$("call").addEventListener("click", () => run(() => call(1)));
$("call-ten").addEventListener("click", () => run(() => call(10)));
setInterval(tick, 100);
setInterval(() => {
  if ($("repeat").checked && !document.hidden && pending === 0) run(() => call(1));
}, REPEAT_MS);

run(load);
