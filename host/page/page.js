// Keeps a page current: the host tells which platforms changed; rows that moved or can be seen are asked for.
"use strict";
const $ = (id) => document.getElementById(id), all = (what, part = document) => [...part.querySelectorAll(what)];
const named = (row) => row.id.slice(2), body = document.body, watched = new Set(), moved = new Set(), changed = new Set();
const known = new Map(); // keys as last heard
let main, data, events, ahead, typing, reload, busy;

const watcher = new IntersectionObserver((rows) => {
	for (const { target, isIntersecting } of rows) watched[isIntersecting ? "add" : "delete"](target);
}, { rootMargin: "300px" });

function begin() {
	main = $("main");
	data = main.dataset;
	ahead = data.now - Date.now() / 1000;
	watcher.disconnect();
	watched.clear();
	all(".p").forEach((row) => watcher.observe(row));
}

function span(s) {
	const [length, unit] = [[86400, "d"], [3600, "h"], [60, "min"]].find(([l]) => s >= 2 * l) ?? [1, "s"];
	return Math.floor(s / length) + " " + unit;
}

function tick(part) {
	all("[data-t]", part).forEach((time) => {
		const at = time.dataset.t, s = at - Date.now() / 1000 - ahead;
		time.textContent = s * s < 1 ? "now" : s < 0 ? span(-s) + " ago" : "in " + span(s);
		time.title ||= new Date(at * 1000).toLocaleString();
	});
}

// A platform changed, or is heard of `first`.
function note(key, first) {
	const name = key.slice(1), gone = key[0] === "-";
	if (data.platform) return void (reload ||= name === data.platform);
	const row = $("p-" + name), before = known.get(name);
	known.set(name, key);
	const missing = !gone && key[0] <= data.last && before !== key && (before || !first || !("part" in data));
	if (row ? row.dataset.k !== key : missing) moved.add(name);
	else if (row) changed.add(name);
}

// With the same open and in focus.
function replace(old, next) {
	const open = all("[open]", old), focus = document.activeElement, had = old.contains(focus);
	old.replaceWith(next);
	all("details", next).forEach((d) => { d.open = open.some((o) => o.id === d.id); });
	if (had) (focus.id ? $(focus.id) : next.querySelector("a"))?.focus();
}

function say(text) {
	if ($("say").textContent !== text) $("say").textContent = text;
}

async function load() {
	reload = false;
	const text = await (await fetch(location)).text();
	const page = new DOMParser().parseFromString(text, "text/html");
	moved.clear();
	changed.clear();
	replace(main, page.getElementById("main"));
	say(page.getElementById("say").textContent);
	document.title = page.title;
	begin();
}

async function rows() {
	const seen = [...watched].map(named).filter((name) => changed.has(name)), names = [...moved, ...seen].slice(0, 60);
	if (!names.length) return;
	const query = new URLSearchParams(location.search), come = document.createElement("template");
	for (const name of names) query.append("n", name);
	const answer = await fetch("/rows?" + query);
	if (!answer.ok) return;
	come.innerHTML = await answer.text();
	for (const name of names) {
		moved.delete(name);
		changed.delete(name);
		const old = $("p-" + name), next = come.content.getElementById("p-" + name);
		watched.delete(old);
		if (!next) { old?.remove(); continue; }
		const key = next.dataset.k, list = all(".rows")[0];
		if (old) replace(old, next);
		if (old?.dataset.k !== key) list.insertBefore(next, [...list.children].find((row) => row.dataset.k > key) ?? null);
		watcher.observe(next);
	}
}

function connect() {
	events?.close();
	events = new EventSource("/events");
	const on = (name, act) => events.addEventListener(name, ({ data }) => { body.className = ""; act(JSON.parse(data)); });
	on("all", (keys) => {
		const names = new Set(keys.map((key) => key.slice(1)));
		all(".p").forEach((row) => names.has(named(row)) || note("-" + named(row)));
		keys.forEach((key) => note(key, true));
	});
	on("changed", (keys) => keys.forEach((key) => note(key)));
	on("host", ({ html, counts, words }) => {
		const next = $("host").cloneNode();
		next.innerHTML = html;
		replace($("host"), next);
		if (data.platform) return;
		all(".n").forEach((n, i) => { n.textContent = counts[i]; });
		document.title = words + " · Conductor";
		say(words);
	});
	events.onerror = () => {
		body.className = "lost";
		say("No word from the host");
		if (events.readyState > 1) setTimeout(connect, 5000);
	};
}

begin();
if (data.now) {
	connect();
	setInterval(async () => {
		if (document.hidden || busy) return;
		[...all("#host, .one"), ...watched].forEach(tick);
		if (body.className) return;
		busy = true;
		try {
			await (reload || moved.size > 300 || ("grouped" in data && moved.size) ? load() : rows());
		} catch {}
		busy = false;
	}, 1000);
	document.addEventListener("visibilitychange", () => {
		events.close();
		if (!document.hidden) connect();
	});
	if (!data.platform) $("q").addEventListener("input", () => {
		clearTimeout(typing);
		typing = setTimeout(() => {
			history.replaceState(0, "", "?" + new URLSearchParams(new FormData($("find"))));
			load();
		}, 250);
	});
}
