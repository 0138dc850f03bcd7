// Keeps an open page as it would be if it were loaded again. The host tells which platforms have changed; the rows of those
// that moved, and of those that can be seen, are asked for. Without this file the page works too, and loads itself anew.
"use strict";
const $ = (id) => document.getElementById(id);
const known = new Map(); // each platform's key as last heard: its rank and name
const moved = new Set(), changed = new Set(), visible = new Set();
let main, events, ahead = 0, reload = false, busy = false, typing;

const watcher = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (isIntersecting) { visible.add(target); tick(target); } else visible.delete(target);
  }
}, { rootMargin: "300px" });

function begin() {
  main = $("main");
  ahead = main.dataset.now * 1000 - Date.now();
  watcher.disconnect();
  visible.clear();
  document.querySelectorAll(".p").forEach((row) => watcher.observe(row));
}

function span(s) {
  for (const [length, unit] of [[86400, "d"], [3600, "h"], [60, "min"]])
    if (s >= 2 * length) return Math.floor(s / length) + " " + unit;
  return Math.floor(s) + " s";
}

function tick(part) {
  const now = (Date.now() + ahead) / 1000;
  for (const time of part.querySelectorAll("time[data-t]")) {
    const s = time.dataset.t - now;
    const text = Math.abs(s) < 1 ? "now" : s < 0 ? span(-s) + " ago" : "in " + span(s);
    if (time.textContent !== text) time.textContent = text;
    time.title ||= new Date(time.dataset.t * 1000).toLocaleString();
  }
}

// A change of one platform; `first` while the page only learns what there is.
function note(key, first) {
  const name = key.slice(1);
  if (main.dataset.platform !== undefined) {
    if (name === main.dataset.platform && !first) reload = true;
    return;
  }
  const row = $("p-" + name), before = known.get(name) ?? row?.dataset.k;
  if (key[0] === "-") known.delete(name); else known.set(name, key);
  if (row ? row.dataset.k !== key : key[0] !== "-" && key[0] <= main.dataset.last && (before ? before !== key : !(first && "part" in main.dataset))) moved.add(name);
  else if (row) changed.add(name);
}

// Puts what has come in the place of what is there, with what is open and has the focus.
function replace(old, next) {
  const open = [...old.querySelectorAll("details[open]")].map((d) => d.id);
  const focus = old.contains(document.activeElement) && document.activeElement;
  old.replaceWith(next);
  for (const d of next.querySelectorAll("details")) if (open.includes(d.id)) d.open = true;
  if (focus) (focus.id ? $(focus.id) : next.querySelector("a"))?.focus();
}

async function load() {
  const answer = await fetch(location);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const next = page.querySelector("main");
  if (!next) return;
  reload = false;
  moved.clear();
  changed.clear();
  replace(main, next);
  if (main.dataset.platform) say(page.querySelector("#say").textContent);
  document.title = page.title;
  begin();
}

async function rows() {
  const seen = [...visible].map((row) => row.id.slice(2)).filter((name) => changed.has(name));
  const names = [...new Set([...moved, ...seen])].slice(0, 60);
  if (!names.length) return;
  const query = new URLSearchParams(location.search);
  for (const name of names) { query.append("n", name); moved.delete(name); changed.delete(name); }
  const answer = await fetch("/rows?" + query);
  if (!answer.ok) return;
  const come = document.createElement("template");
  come.innerHTML = await answer.text();
  for (const name of names) {
    const old = $("p-" + name), next = come.content.querySelector("#p-" + CSS.escape(name));
    if (old) { visible.delete(old); watcher.unobserve(old); }
    if (!next) { old?.remove(); continue; }
    if (old?.dataset.k === next.dataset.k) replace(old, next);
    else {
      const list = document.querySelector(".rows");
      const place = [...list.children].find((row) => row !== old && row.dataset.k > next.dataset.k);
      if (old) replace(old, next);
      list.insertBefore(next, place ?? null);
    }
    watcher.observe(next);
  }
}

function say(text) { if ($("say").textContent !== text) $("say").textContent = text; }

function connect() {
  events = new EventSource("/events");
  const on = (name, act) => events.addEventListener(name, (e) => { document.body.classList.remove("lost"); act(JSON.parse(e.data)); });
  on("all", (keys) => {
    const names = new Set(keys.map((key) => key.slice(1)));
    for (const row of document.querySelectorAll(".p")) if (!names.has(row.id.slice(2))) note("-" + row.id.slice(2));
    for (const key of keys) note(key, true);
    if (main.dataset.platform) reload = true;
  });
  on("changed", (keys) => keys.forEach((key) => note(key)));
  on("host", ({ html, counts, words }) => {
    const next = document.createElement("div");
    next.id = "host";
    next.innerHTML = html;
    if ($("host")) replace($("host"), next);
    if (main.dataset.platform) return;
    document.querySelectorAll(".n").forEach((n, i) => { n.textContent = counts[i]; });
    document.title = words + " · Conductor";
    say(words);
  });
  events.onerror = () => { document.body.classList.add("lost"); say("No word from the host: what is shown is old"); };
}

setInterval(async () => {
  if (document.hidden || !main.dataset.now) return;
  for (const part of [$("host"), document.querySelector(".one"), ...visible]) if (part) tick(part);
  if (busy || document.body.classList.contains("lost")) return;
  busy = true;
  try {
    if (reload || moved.size > 300 || ("grouped" in main.dataset && moved.size)) await load();
    else await rows();
  } catch { /* the stream's own error tells it */ }
  busy = false;
}, 1000);

// A browser has few connections for each host, and a tab that nobody sees needs none.
document.addEventListener("visibilitychange", () => {
  events?.close();
  if (!document.hidden && main.dataset.now) connect();
});

$("q").addEventListener("input", () => {
  if (main.dataset.platform !== undefined || !main.dataset.now) return;
  clearTimeout(typing);
  typing = setTimeout(() => {
    const url = new URL(location);
    if ($("q").value.trim()) url.searchParams.set("q", $("q").value); else url.searchParams.delete("q");
    history.replaceState(null, "", url);
    load();
  }, 250);
});

begin();
if (main.dataset.now) connect();
