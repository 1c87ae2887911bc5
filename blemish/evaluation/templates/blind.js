"use strict";

// One pair at a time; what was chosen is kept by the browser, and handed out as a file.
const blind = document.querySelector("[data-blind]");
const about = JSON.parse(blind.dataset.blind);
const trials = [...blind.querySelectorAll(".trial")];
const [choosing, more] = blind.querySelectorAll(".controls");
const done = blind.querySelector(".done");
const bar = blind.querySelector("progress");
const label = blind.querySelector("output");
const link = blind.querySelector("[data-save]");
const zoom = blind.querySelector("[data-zoom]");
const key = `blemish-compare-${about.page}`;
let answers, place, started, since;

const begin = () => {
  answers = trials.map(() => null);
  place = 0;
  started = new Date().toISOString();
};

// Some browsers give a page from a file no memory; then a reload begins anew.
const remember = () => {
  try { localStorage.setItem(key, JSON.stringify({ answers, place, started })); } catch { /* no memory */ }
};
const recall = () => {
  begin();
  try {
    const kept = JSON.parse(localStorage.getItem(key));
    if (kept && kept.answers.length === trials.length) ({ answers, place, started } = kept);
  } catch { /* no memory */ }
};

const choices = () => answers.flatMap((answer, i) => (answer ? [{ trial: i + 1, ...answer }] : []));
const show = () => {
  const finished = place >= trials.length;
  trials.forEach((trial, i) => { trial.hidden = i !== place; });
  choosing.hidden = finished;
  more.hidden = false;
  done.hidden = !finished;
  zoom.hidden = finished;
  const made = choices();
  bar.value = made.length;
  label.textContent = finished ? `${made.length} of ${trials.length} judged` : `Pair ${place + 1} of ${trials.length}`;
  const file = JSON.stringify({ format: 1, ...about, started, choices: made }, null, 1);
  link.href = `data:application/json;charset=utf-8,${encodeURIComponent(file)}`;
  link.hidden = !made.length;
  if (finished) done.focus();
  since = performance.now();
};

const choose = (chosen) => {
  if (place >= trials.length) return;
  answers[place] = { chosen, seconds: Math.round(performance.now() - since) / 1000 };
  place += 1;
  remember();
  show();
};
const back = () => {
  place = Math.max(0, place - 1);
  remember();
  show();
};
const magnify = () => {
  zoom.setAttribute("aria-pressed", String(blind.classList.toggle("exact")));
};

for (const button of blind.querySelectorAll("[data-choose]")) {
  button.addEventListener("click", () => choose(button.dataset.choose));
}
blind.querySelector("[data-back]").addEventListener("click", back);
blind.querySelector("[data-again]").addEventListener("click", () => { begin(); remember(); show(); });
zoom.addEventListener("click", magnify);

const keys = {
  ArrowLeft: () => choose("left"),
  ArrowRight: () => choose("right"),
  ArrowDown: () => choose("none"),
  Backspace: back,
  z: magnify,
};
document.addEventListener("keydown", (event) => {
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  // A key that is held down chooses once.
  if (!act || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
});

// Enlarged, both pictures show the same place.
for (const trial of trials) {
  const views = [...trial.querySelectorAll(".view")];
  for (const view of views) {
    view.addEventListener("scroll", () => {
      for (const other of views) {
        if (other === view) continue;
        other.scrollLeft = view.scrollLeft;
        other.scrollTop = view.scrollTop;
      }
    });
  }
}

recall();
show();
