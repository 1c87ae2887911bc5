"use strict";

// Charts: the values under the pointer, or under the place moved to with the arrow keys.
for (const chart of document.querySelectorAll("[data-chart]")) {
  const data = JSON.parse(chart.dataset.chart);
  const svg = chart.querySelector("svg");
  const hair = chart.querySelector(".hair");
  const dots = chart.querySelectorAll(".dot");
  const output = chart.querySelector("output");
  if (!data.x.length) continue;
  let place = data.x.length - 1;

  const show = (index) => {
    place = Math.max(0, Math.min(data.x.length - 1, index));
    hair.setAttribute("x1", data.x[place]);
    hair.setAttribute("x2", data.x[place]);
    hair.style.visibility = "visible";
    output.replaceChildren(`${chart.dataset.axis} ${data.at[place]}`);
    data.lines.forEach((line, i) => {
      const y = line.y[place];
      dots[i].style.visibility = y === null ? "hidden" : "visible";
      if (y === null) return;
      dots[i].setAttribute("cx", data.x[place]);
      dots[i].setAttribute("cy", y);
      const value = document.createElement("b");
      value.className = line.role;
      value.textContent = line.label[place];
      output.append(` · ${line.name} `, value);
    });
  };
  const hide = () => {
    for (const mark of [hair, ...dots]) mark.style.visibility = "hidden";
    output.textContent = "";
  };
  const follow = (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    let best = 0;
    data.x.forEach((at, i) => { if (Math.abs(at - x) < Math.abs(data.x[best] - x)) best = i; });
    show(best);
  };
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(place + step);
  });
}

// Samples over time: one sheet at a time, chosen with a slider; without a script they stand side by side.
for (const strip of document.querySelectorAll(".time")) {
  const frames = [...strip.querySelectorAll("figure")];
  const player = strip.previousElementSibling;
  const slider = player.querySelector("input");
  const label = player.querySelector("output");
  const button = player.querySelector("button");
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; button.textContent = "Play"; };
  const show = (index) => {
    frames.forEach((frame, i) => { frame.hidden = i !== index; });
    slider.value = index;
    label.textContent = frames[index].querySelector("figcaption").textContent;
  };
  slider.max = frames.length - 1;
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  button.addEventListener("click", () => {
    if (timer) return stop();
    button.textContent = "Stop";
    show((Number(slider.value) + 1) % frames.length);
    timer = setInterval(() => show((Number(slider.value) + 1) % frames.length), 700);
  });
  strip.classList.add("live");
  player.classList.add("live");
  show(frames.length - 1);
}

// Before and after: the handle follows the slider.
for (const slider of document.querySelectorAll(".slider")) {
  const input = slider.querySelector("input");
  const label = slider.querySelector("output");
  const show = () => {
    slider.style.setProperty("--at", `${input.value}%`);
    label.textContent = `${input.value} % as it was`;
  };
  slider.classList.add("live");
  input.addEventListener("input", show);
  show();
}
