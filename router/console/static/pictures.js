// A reading's slices with outlines, its report and its messages: fetched when they are opened, kept while the page is fresh.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

function drawn(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
}

// -- slices

class Slices {
  constructor(place, job, found) {
    Object.assign(this, { job, found, outlines: new Map(), shown: -1, hidden: new Set() });
    const [down, across] = found.spacing_mm;
    const [width, height] = [found.columns * across, found.rows * down];
    this.svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, class: "slice", role: "img" });
    const pixels = drawn("g", { transform: `scale(${across} ${down})` }, this.svg);
    this.image = drawn("image", { width: found.columns, height: found.rows, preserveAspectRatio: "none" }, pixels);
    this.lines = drawn("g", {}, pixels);
    this.letters(found.letters, width, height);
    this.slider = element("input");
    Object.assign(this.slider, { type: "range", min: 0, max: found.slices.length - 1, value: this.middle() });
    this.slider.setAttribute("aria-label", "Slice");
    this.count = element("output");
    this.slider.addEventListener("input", () => this.show(Number(this.slider.value)));
    this.svg.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.step(Math.sign(event.deltaY));
    }, { passive: false });
    const bar = element("div", undefined, "slider");
    bar.append(this.slider, this.count);
    place.append(this.svg, bar, this.legend());
    this.show(Number(this.slider.value));
  }

  middle() { // of the slices with the most on them
    const most = Math.max(...this.found.slices.map((on) => on.length));
    const full = this.found.slices.flatMap((on, number) => (on.length === most ? [number] : []));
    return full[full.length >> 1] ?? 0;
  }

  letters([left, right, top, bottom], width, height) {
    const size = Math.max(width, height) / 30;
    const at = [[left, size * 0.3, height / 2, "start"], [right, width - size * 0.3, height / 2, "end"], [top, width / 2, size, "middle"], [bottom, width / 2, height - size * 0.3, "middle"]];
    for (const [text, x, y, anchor] of at) drawn("text", { x, y, "text-anchor": anchor, "font-size": size, class: "edge" }, this.svg).textContent = text;
  }

  legend() {
    const list = element("ul", undefined, "legend");
    for (const segment of this.found.segments) {
      const label = element("label");
      const box = element("input");
      Object.assign(box, { type: "checkbox", checked: true });
      box.addEventListener("change", () => {
        box.checked ? this.hidden.delete(segment.number) : this.hidden.add(segment.number);
        this.outline(this.shown);
      });
      const patch = drawn("svg", { viewBox: "0 0 10 10", class: "patch" });
      drawn("rect", { width: 10, height: 10, fill: segment.colour }, patch);
      label.append(box, patch, ` ${segment.name}`);
      list.append(element("li"));
      list.lastChild.append(label);
    }
    return list;
  }

  step(by) {
    this.slider.value = Number(this.slider.value) + by;
    this.show(Number(this.slider.value));
  }

  url(number, what) {
    return `/api/readings/${this.job}/slices/${number}/${what}`;
  }

  show(number) {
    this.shown = number;
    this.count.textContent = `${number + 1} of ${this.found.slices.length}`;
    this.image.setAttribute("href", this.url(number, "image"));
    this.lines.replaceChildren();
    const names = this.found.segments.filter((each) => this.found.slices[number].includes(each.number)).map((each) => each.name);
    this.svg.setAttribute("aria-label", `Slice ${number + 1}: ${names.join(", ") || "nothing outlined"}`);
    this.outline(number);
    for (const next of [number + 1, number - 1]) if (this.found.slices[next]) new Image().src = this.url(next, "image");
  }

  async outline(number) {
    if (!this.outlines.has(number)) this.outlines.set(number, this.found.slices[number].length ? call("GET", this.url(number, "outlines")) : []);
    const paths = await this.outlines.get(number);
    if (number !== this.shown) return;
    this.lines.replaceChildren();
    for (const { segment, path } of paths) {
      if (this.hidden.has(segment)) continue;
      const { colour, name } = this.found.segments.find((each) => each.number === segment);
      const line = drawn("path", { d: path, stroke: colour, class: "outline", "data-segment": segment }, this.lines);
      drawn("title", {}, line).textContent = name;
    }
  }
}

// -- report and messages

function tree(items) {
  const list = element("ul", undefined, "report");
  for (const item of items) {
    const line = element("li");
    line.append(element("span", item.name, "muted"), item.value ? ` ${item.value}` : "");
    if (item.items.length) line.append(tree(item.items));
    list.append(line);
  }
  return list;
}

function lines(messages, place, url) {
  for (const each of messages) {
    place.append(element("p", `${each.destination}${each.kind === "result" ? "" : ` (${each.kind})`}: ${each.state}${each.control_id ? `, control id ${each.control_id}` : ""}`));
    place.append(element("pre", each.text.replaceAll("\r", "\n").trim()));
    place.append(element("p", each.receipt ? `Reply: ${each.receipt}` : "No reply yet.", "muted"));
  }
  if (!messages.length) return place.append(element("p", "There are no messages for a RIS or a FHIR server.", "muted"));
  if (place.dataset.acts && !url.includes("whole")) {
    const button = element("button", "Show the patient's data as well", "plain");
    button.type = "button";
    button.addEventListener("click", () => fill(place, `${url}?whole=true`));
    place.append(button, element("span", " (this is recorded)", "muted"));
  }
}

const SHOWN = {
  slices: (place, found, url) => new Slices(place, url.split("/")[3], found),
  report: (place, found) => place.append(tree(found)),
  messages: (place, found, url) => lines(found, place, url),
};

async function fill(place, url) {
  place.replaceChildren(element("p", "loading …", "muted"));
  try {
    const found = await call("GET", url);
    place.replaceChildren();
    SHOWN[place.dataset.show](place, found, url);
  } catch (error) {
    place.replaceChildren(element("p", error.message, "fault"));
  }
}

document.addEventListener("toggle", (event) => {
  const place = $("[data-show]", event.target);
  if (event.target.open && place && !place.hasChildNodes()) fill(place, place.dataset.url);
}, true);
