"use strict";
const boxes = [...document.querySelectorAll(".box")];
const edges = [...document.querySelectorAll(".edge")];
const records = [...document.querySelectorAll("details.record")];

// An asset is shown while a path leads from it to the output that passes through no folded asset.
function showReachable() {
  const reached = new Set(boxes.filter((box) => box.classList.contains("output")).map((box) => box.dataset.asset));
  const folded = new Set(boxes.filter((box) => box.classList.contains("folded")).map((box) => box.dataset.asset));
  const isShown = (edge) => reached.has(edge.dataset.target) && !folded.has(edge.dataset.target);
  for (let before = -1; before !== reached.size; ) {
    before = reached.size;
    edges.filter(isShown).forEach((edge) => reached.add(edge.dataset.source));
  }
  boxes.forEach((box) => box.classList.toggle("hidden", !reached.has(box.dataset.asset)));
  edges.forEach((edge) => edge.classList.toggle("hidden", !isShown(edge)));
}

function goTo(box) {
  const record = document.getElementById(box.dataset.anchor);
  if (record) { record.open = true; record.scrollIntoView(); }
}

boxes.forEach((box) => {
  box.addEventListener("click", () => { box.classList.toggle("folded"); showReachable(); });
  box.addEventListener("dblclick", () => goTo(box));
  box.addEventListener("keydown", (event) => { if (event.key === "Enter") goTo(box); });
});

document.getElementById("search").addEventListener("input", (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  const matches = records.filter((record) => record.textContent.toLowerCase().includes(wanted));
  records.forEach((record) => record.classList.toggle("hidden", !matches.includes(record)));
  boxes.forEach((box) => box.classList.toggle("found", wanted !== "" && box.dataset.asset.toLowerCase().includes(wanted)));
  document.getElementById("matches").textContent = wanted ? `${matches.length} of ${records.length} outputs` : "";
});
document.getElementById("open").addEventListener("click", () => records.forEach((record) => { record.open = true; }));
document.getElementById("close").addEventListener("click", () => records.forEach((record) => { record.open = false; }));
window.addEventListener("beforeprint", () => records.forEach((record) => { record.open = true; }));
