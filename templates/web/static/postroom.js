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
  const cell = (row, text, kind) => {
    const made = row.insertCell();
    if (kind) made.className = kind;
    made.textContent = text;
    return made;
  };
  const show = (job) => {
    const row = document.createElement("tr");
    const link = document.createElement("a");
    link.href = job.href;
    link.textContent = job.title;
    const what = cell(row, "", "what");
    what.append(link);
    if (job.reason) {
      const why = document.createElement("span");
      why.className = "small";
      why.textContent = job.reason;
      what.append(why);
    }
    const state = document.createElement("span");
    state.className = `state ${job.state}`;
    state.textContent = job.words;
    cell(row, "").append(state);
    cell(row, job.phase);
    cell(row, job.tokens || "");
    const far = document.createElement("progress");
    far.max = 100;
    far.value = job.percent;
    far.setAttribute("aria-label", "How far");
    cell(row, "").append(far);
    return row;
  };
  const events = new EventSource(live.dataset.live);
  events.addEventListener("jobs", (event) => {
    const { jobs } = JSON.parse(event.data);
    const chosen = document.activeElement?.getAttribute("href");
    body.replaceChildren(...jobs.map(show));
    document.querySelector("[data-live-empty]").hidden = jobs.length > 0;
    if (chosen) [...body.querySelectorAll("a")].find((link) => link.getAttribute("href") === chosen)?.focus();
  });
  addEventListener("pagehide", () => events.close());
}
