// Keeps a page current: asks for the rows that changed and are in sight or moved.
"use strict";
const doc = document, $ = (id, page = doc) => page.getElementById(id), all = (what, part = doc) => [...part.querySelectorAll(what)];
const named = (row) => row.id.slice(2), body = doc.body, watched = new Set(), moved = new Set(), changed = new Set();
const known = new Map();
let data, events, ahead, typing, reload, busy, gone;
const clock = () => performance.now() / 1e3;

const watcher = new IntersectionObserver((rows) => {
	for (const { target, isIntersecting } of rows) watched[isIntersecting ? "add" : "delete"](target);
}, { rootMargin: "300px" });

function begin() {
	data = $("main").dataset;
	ahead = data.now - clock();
	watcher.disconnect();
	watched.clear();
	all(".p").forEach((row) => watcher.observe(row));
	all("time:not([data-t])").forEach((time) => {
		time.title = time.dateTime;
		time.textContent = new Date(time.dateTime).toLocaleString();
	});
}

function span(s) {
	const [length, unit] = [[86400, "d"], [3600, "h"], [60, "min"]].find(([l]) => s >= 2 * l) ?? [1, "s"];
	return Math.floor(s / length) + " " + unit;
}

function tick(part) {
	all("[data-t]", part).forEach((time) => {
		const at = time.dataset.t, s = at - clock() - ahead;
		time.textContent = s * s < 1 ? "now" : s < 0 ? span(-s) + " ago" : "in " + span(s);
		time.title ||= new Date(at * 1000).toLocaleString();
	});
}

function note(key, first) {
	const name = key.slice(1);
	if (data.platform) return void (reload ||= name === data.platform);
	const row = $("p-" + name), before = known.get(name);
	known.set(name, key);
	const missing = key[0] !== "-" && key[0] <= data.last && before !== key && (before || !first || !("part" in data));
	if (row ? row.dataset.k !== key : missing) moved.add(name);
	else if (row) changed.add(name);
}

function replace(old, next) {
	const open = new Map(all("details", old).map((d) => [d.id, d.open])), focus = doc.activeElement, had = old.contains(focus);
	old.replaceWith(next);
	all("details", next).forEach((d) => { d.open = open.get(d.id) ?? d.open; });
	if (had) (focus.id ? $(focus.id) : next.querySelector("a"))?.focus();
}

function say(text, how = "") {
	body.className = how;
	if ($("say").textContent !== text) $("say").textContent = text;
}

async function get(url) {
	const page = new DOMParser().parseFromString(await (await fetch(url)).text(), "text/html");
	if ($("main", page)) return page;
	throw 0;
}

async function load() {
	reload = false;
	const page = await get(location);
	moved.clear();
	changed.clear();
	replace($("main"), $("main", page));
	say($("say", page).textContent);
	doc.title = page.title;
	begin();
}

async function rows() {
	const names = [...moved, ...[...watched].map(named).filter((name) => changed.has(name))].slice(0, 60);
	if (!names.length) return;
	const query = new URLSearchParams(location.search);
	for (const name of names) query.append("n", name);
	const page = await get("/rows?" + query);
	for (const name of names) {
		moved.delete(name);
		changed.delete(name);
		const old = $("p-" + name), next = $("p-" + name, page);
		watched.delete(old);
		if (!next) { old?.remove(); continue; }
		const key = next.dataset.k, list = all(".rows")[0];
		if (old) replace(old, next);
		if (old?.dataset.k !== key) list.insertBefore(next, all(".p", list).find((row) => row.dataset.k > key) ?? null);
		watcher.observe(next);
	}
}

function connect() {
	events?.close();
	events = new EventSource("/events");
	const on = (name, act) => events.addEventListener(name, ({ data }) => act(JSON.parse(data)));
	on("all", (keys) => {
		const names = new Set(keys.map((key) => key.slice(1)));
		all(".p").forEach((row) => names.has(named(row)) || note("-" + named(row)));
		keys.forEach((key) => note(key, true));
	});
	on("changed", (keys) => keys.forEach((key) => note(key)));
	on("host", ({ html, counts, words, now }) => {
		ahead = now - clock();
		gone = 0;
		const next = $("host").cloneNode();
		next.innerHTML = html;
		replace($("host"), next);
		if (data.platform || reload) return;
		all(".n").forEach((n, i) => { n.textContent = counts[i]; });
		doc.title = words + " · Conductor";
		say(words);
	});
	events.onerror = () => {
		gone ||= "Host unreachable since " + new Date().toTimeString().slice(0, 5);
		say(doc.title = gone, "lost");
		if (events.readyState > 1) setTimeout(connect, 5000);
	};
}

async function turn() {
	if (doc.hidden) return;
	[...all("#host, .one"), ...watched].forEach(tick);
	if (busy || (body.className && !reload)) return;
	busy = true;
	try {
		await (reload || moved.size > ("grouped" in data ? 0 : 300) ? load() : rows());
	} catch {
		reload = true;
		say("Out of date; retrying", "lost");
		await new Promise((go) => setTimeout(go, 4000));
	}
	busy = false;
}

begin();
if (data.now) {
	connect();
	setInterval(turn, 1000);
	doc.onvisibilitychange = () => {
		events.close();
		if (!doc.hidden) connect();
	};
	if (!data.platform) $("q").oninput = () => {
		clearTimeout(typing);
		typing = setTimeout(() => {
			history.replaceState(0, "", "?" + new URLSearchParams(new FormData($("find"))));
			reload = true;
			turn();
		}, 250);
	};
}
