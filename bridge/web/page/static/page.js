// What the page does besides htmx: pausing, copying, keys, and the clicks of the route builder.
"use strict";

const PAUSED = "bridge-paused";

function onPage(type, selector, handler) {
  document.addEventListener(type, (event) => {
    const element = event.target.closest?.(selector);
    if (element) handler(element, event);
  });
}

// Live updates: a pause lasts for the tab. A hidden tab asks for nothing.
function isPaused() {
  return sessionStorage.getItem(PAUSED) === "yes";
}

function showPause() {
  const button = document.getElementById("pause");
  if (!button) return;
  button.hidden = !document.querySelector("[data-live]");
  button.setAttribute("aria-pressed", String(isPaused()));
  button.querySelector("b").textContent = isPaused() ? "Resume" : "Pause";
}

onPage("click", "#pause", () => {
  sessionStorage.setItem(PAUSED, isPaused() ? "no" : "yes");
  showPause();
});

document.addEventListener("htmx:before:request", (event) => {
  const source = event.detail.ctx?.sourceElement;
  const isReading = document.getSelection()?.type === "Range";
  if (source?.hasAttribute("data-live") && (isPaused() || document.hidden || isReading)) event.preventDefault();
});

// Buttons that need JavaScript are hidden without it.
function showButtons() {
  for (const button of document.querySelectorAll("button.copy[hidden]")) button.hidden = false;
}

async function copy(text, element) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https a page has no clipboard.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const before = element.title;
  element.classList.add("used");
  element.title = "Copied";
  setTimeout(() => { element.classList.remove("used"); element.title = before; }, 1200);
}

onPage("click", "button.copy", (button) => copy(button.dataset.copy, button));
onPage("click", "[data-tree=copy] .field", (field) => copy(field.dataset.path, field));
onPage("change", "select[data-submit]", (select) => select.form.requestSubmit());

// An empty choice would be a parameter without a value.
onPage("submit", "form.filters", (form) => {
  for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
});

// The route builder: a click on a field adds a condition or the next argument.
function hidden(name, value) {
  const input = document.createElement("input");
  input.type = "hidden";
  input.name = name;
  input.value = value;
  return input;
}

function rebuild(form) {
  form.dispatchEvent(new CustomEvent("rebuild"));
}

onPage("click", "[data-tree=build] .field", (field, event) => {
  const form = document.getElementById("builder");
  const chosen = document.querySelector("input[name=mode]:checked");
  if (event.shiftKey || chosen?.value === "argument") {
    const empty = [...form.querySelectorAll("input[name=argument]")].find((input) => !input.value);
    if (empty) empty.value = field.dataset.path;
    else form.append(hidden("argument", field.dataset.path));
  } else {
    form.append(hidden("path", field.dataset.path), hidden("value", field.dataset.value ?? "*"));
  }
  field.classList.add("used");
  rebuild(form);
});

onPage("click", "[data-remove]", (button) => {
  const form = document.getElementById("builder");
  const names = button.dataset.remove === "condition" ? ["path", "value"] : ["argument"];
  for (const name of names) form.querySelectorAll(`input[name=${name}]`)[Number(button.dataset.index)]?.remove();
  rebuild(form);
});

// Keys: / goes to the search, j and k move in a list, Enter opens.
let cursor = -1;

function move(by) {
  const rows = [...document.querySelectorAll("table.list tbody tr")];
  if (!rows.length) return;
  cursor = Math.min(rows.length - 1, Math.max(0, cursor + by));
  rows.forEach((row, at) => row.classList.toggle("cursor", at === cursor));
  rows[cursor].querySelector("a.row-link")?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  if (event.key === "/") {
    const search = document.getElementById("search");
    if (search) { event.preventDefault(); search.focus(); }
  } else if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
});

document.addEventListener("DOMContentLoaded", () => { showPause(); showButtons(); });
document.addEventListener("htmx:after:swap", () => { showPause(); showButtons(); });
