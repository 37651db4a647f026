// What makes the pages quicker to use. Without it everything can still be read and decided.

const here = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
for (const time of document.querySelectorAll("time[datetime]")) {
  time.title = time.textContent;
  time.textContent = here.format(new Date(time.dateTime));
}

for (const all of document.querySelectorAll("input[data-all]")) {
  all.addEventListener("change", () => {
    for (const one of document.getElementsByName(all.dataset.all)) one.checked = all.checked;
  });
}

const writes = (target) => target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]") !== null;
const links = [...document.querySelectorAll("[data-keys] tbody a")].filter((link, at, all) => link.closest("tr") !== all[at - 1]?.closest("tr"));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && writes(event.target)) event.target.blur();
  if (event.ctrlKey || event.metaKey || event.altKey || writes(event.target)) return;
  const step = { j: 1, k: -1 }[event.key];
  if (step && links.length) {
    const at = links.indexOf(document.activeElement);
    links[Math.min(Math.max(at + step, 0), links.length - 1)].focus();
    event.preventDefault();
    return;
  }
  const key = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (key) {
    event.preventDefault();
    if (key.matches("input, textarea, select")) key.focus();
    else key.click();
  }
});

const live = document.querySelector("[data-live]");
if (live) {
  const body = document.querySelector("[data-live-rows]");
  const rows = new Map();
  const put = (into, name, kind) => {
    const made = into.appendChild(document.createElement(name));
    if (kind) made.className = kind;
    return made;
  };
  const write = (into, text) => {
    if (into.textContent !== text) into.textContent = text;
    into.hidden = text === "";
  };
  const begin = () => {
    const row = document.createElement("tr");
    const what = put(row, "td", "what");
    const [link, reason, tail] = [put(what, "a"), put(what, "span", "small"), put(what, "span", "tail")];
    const state = put(put(row, "td"), "span");
    const [phase, tokens] = [put(row, "td"), put(row, "td")];
    const far = put(put(row, "td"), "progress");
    far.max = 100;
    far.setAttribute("aria-label", "How far");
    return { row, link, reason, tail, state, phase, tokens, far };
  };
  const show = (job) => {
    if (!rows.has(job.id)) rows.set(job.id, begin());
    const parts = rows.get(job.id);
    parts.link.href = job.href;
    parts.state.className = `state ${job.state}`;
    parts.far.value = job.percent;
    write(parts.link, job.title);
    write(parts.reason, job.reason);
    write(parts.tail, job.tail);
    write(parts.state, job.words);
    parts.phase.textContent = job.phase;
    parts.tokens.textContent = job.tokens || "";
    return parts.row;
  };
  const events = new EventSource(live.dataset.live);
  events.addEventListener("jobs", (event) => {
    const { jobs } = JSON.parse(event.data);
    const there = new Set(jobs.map((job) => job.id));
    for (const id of rows.keys()) if (!there.has(id)) rows.delete(id);
    const shown = jobs.map(show);
    // what stays where it is keeps the focus and what is selected in it
    if (shown.length !== body.rows.length || shown.some((row, at) => row !== body.rows[at])) {
      const chosen = document.activeElement?.getAttribute("href");
      body.replaceChildren(...shown);
      if (chosen) [...body.querySelectorAll("a")].find((link) => link.getAttribute("href") === chosen)?.focus();
    }
    document.querySelector("[data-live-empty]").hidden = jobs.length > 0;
  });
  addEventListener("pagehide", () => events.close());
}
