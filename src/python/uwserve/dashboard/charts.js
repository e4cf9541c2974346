// Area charts on canvas, of times with a logarithmic axis: a median of microseconds and a worst case of milliseconds both
// tell something. All share one window of time and one pointer: who looks at a moment in one chart sees its figures
// in all of them.

const charts = [];
let pointed = null;  // an index into the points, while the pointer is over a chart

class Chart {
  // series: [{field, name, colour, filled}]; least: the smallest top of the axis.
  constructor(parent, title, unit, series, least) {
    Object.assign(this, {title, unit, series, least});
    this.element = document.createElement("article");
    this.element.className = "chart";
    const heading = document.createElement("h2");
    heading.textContent = title;
    const legend = document.createElement("div");
    legend.className = "legend";
    this.values = series.map(one => {
      const item = document.createElement("span");
      const key = document.createElement("i");
      key.className = `key-${one.colour}`;
      const value = document.createElement("b");
      value.textContent = "–";
      item.append(key, value, one.name);
      legend.append(item);
      return value;
    });
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.element.append(heading, legend, this.canvas);
    parent.append(this.element);
    this.canvas.addEventListener("pointermove", event => this.point(event));
    this.canvas.addEventListener("pointerleave", () => { pointed = null; drawAll(); });
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    charts.push(this);
  }

  point(event) {
    const {left, width} = this.canvas.getBoundingClientRect();
    const at = (event.clientX - left) / width;
    const index = Math.round(at * (view.shown - 1)) - (view.shown - view.points.length);
    pointed = index >= 0 && index < view.points.length ? index : null;
    drawAll();
  }

  column(one) {
    const index = view.fields.indexOf(one.field);
    return view.points.map(point => point[index]);
  }

  draw() {
    const {canvas, unit} = this;
    const width = canvas.clientWidth, height = canvas.clientHeight, ratio = window.devicePixelRatio || 1;
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const colours = getComputedStyle(document.documentElement);
    const colour = name => colours.getPropertyValue(`--${name}`).trim();
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);

    const columns = this.series.map(one => this.column(one));
    const most = Math.max(0, ...columns.flat());
    const top = unit === "time" ? 10 ** Math.ceil(Math.log10(Math.max(most, this.least))) : ceiling(most, this.least);
    const part = unit === "time" ? value => Math.log10(Math.max(1, value)) / Math.log10(top) : value => value / top;
    const floor = height - 15, y = value => floor - (floor - 12) * Math.min(1, part(value));
    const x = index => (index + view.shown - view.points.length) * (width - 1) / (view.shown - 1);
    this.grid(pen, {width, floor, y, top, unit, colour});
    columns.forEach((values, i) => this.line(pen, values, {x, y, floor, colour: colour(this.series[i].colour), filled: this.series[i].filled}));

    const shown = pointed ?? view.points.length - 1;
    if (pointed !== null) {
      pen.strokeStyle = colour("soft");
      pen.globalAlpha = 0.6;
      pen.beginPath();
      pen.moveTo(x(shown), 8);
      pen.lineTo(x(shown), floor);
      pen.stroke();
      pen.globalAlpha = 1;
    }
    const texts = columns.map((values, i) => {
      const text = shown >= 0 && this.isKnown(i) ? format(values[shown], unit) : "–";
      this.values[i].textContent = text;
      if (shown >= 0 && (pointed !== null || shown === view.points.length - 1)) {
        pen.fillStyle = colour(this.series[i].colour);
        pen.beginPath();
        pen.arc(Math.min(x(shown), width - 2.5), y(values[shown]), 2.5, 0, 7);
        pen.fill();
      }
      return `${this.series[i].name} ${text}`;
    });
    canvas.setAttribute("aria-label", `${this.title}: ${texts.join(", ")}`);
  }

  isKnown(i) {
    return !this.series[i].field.startsWith("handler_") || view.timesHandlers;
  }

  grid(pen, {width, floor, y, top, unit, colour}) {
    pen.lineWidth = 1;
    pen.font = "10.5px system-ui, sans-serif";
    pen.fillStyle = colour("soft");
    pen.textBaseline = "alphabetic";
    pen.textAlign = "left";
    const lines = [0, top / 2, top], named = [top];
    if (unit === "time") {
      lines.length = 0;
      for (let decade = 1; decade <= top; decade *= 10) lines.push(decade);
      named.push(...lines.slice(1, -1).reverse().filter((_, i) => i % 2 === 1));
    }
    lines.forEach((value, i) => {
      pen.strokeStyle = colour(i ? "grid" : "line");
      const at = Math.round(y(value)) + 0.5;
      pen.beginPath();
      pen.moveTo(0, at);
      pen.lineTo(width, at);
      pen.stroke();
    });
    for (const value of named) pen.fillText(format(value, unit), 0, y(value) - 2.5);
    const seconds = view.shown * view.interval;
    for (const [part, text] of [[0, `${duration(seconds)} ago`], [0.5, duration(seconds / 2)], [1, "now"]]) {
      if (part === 0.5 && width < 170) continue;  // no room
      pen.textAlign = part === 0 ? "left" : part === 1 ? "right" : "center";
      pen.fillText(text, part * width, floor + 13);
    }
    const time = pointed !== null && new Date(view.points[pointed][view.fields.indexOf("time")]);
    if (time) {
      pen.textAlign = "right";
      pen.fillText(time.toLocaleTimeString(), width, y(top) - 2.5);
    }
  }

  line(pen, values, {x, y, floor, colour, filled}) {
    if (!values.length) return;
    const path = () => {
      pen.beginPath();
      values.forEach((value, i) => (i ? pen.lineTo(x(i), y(value)) : pen.moveTo(x(i), y(value))));
    };
    if (filled) {
      path();
      pen.lineTo(x(values.length - 1), floor);
      pen.lineTo(x(0), floor);
      pen.closePath();
      pen.globalAlpha = 0.14;
      pen.fillStyle = colour;
      pen.fill();
      pen.globalAlpha = 1;
    }
    path();
    pen.strokeStyle = colour;
    pen.lineWidth = 1.4;
    pen.lineJoin = "round";
    pen.stroke();
  }
}

function drawAll() {
  for (const chart of charts) chart.draw();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
