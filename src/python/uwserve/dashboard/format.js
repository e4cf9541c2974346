// Numbers as people read them. `unit` chooses: "count", "rate", "bytes", "byterate", "time" (of microseconds), "percent".

function short(value) {
  if (value >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value.toFixed(value >= 10 ? 1 : 2).replace(/\.?0+$/, "");
}

function scaled(value, step, names) {
  let index = 0;
  while (value >= step * 0.9995 && index < names.length - 1) {
    value /= step;
    index++;
  }
  const digits = index === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return [value.toFixed(digits).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, ""), names[index]];
}

const BYTES = ["B", "kB", "MB", "GB", "TB"];

function format(value, unit) {
  switch (unit) {
    case "bytes": return scaled(value, 1000, BYTES).join(" ");
    case "byterate": return scaled(value, 1000, BYTES).join(" ") + "/s";
    case "time":
      if (value < 1) return value > 0 ? "< 1 µs" : "0";
      return scaled(value, 1000, ["µs", "ms", "s"]).join(" ");
    case "percent": return `${(value * 100).toFixed(value >= 0.0995 || value === 0 ? 0 : 1)} %`;
    case "rate":
    case "count":
      return value < 100000 ? short(value) : scaled(value, 1000, ["", "k", "M", "G"]).join(" ");
  }
  throw new Error(unit);
}

function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => seconds >= size);
  if (first < 0) return "0 s";
  return parts.slice(first, first + 2)
    .map(([size, name], i, two) => `${Math.floor((i ? seconds % two[0][0] : seconds) / size)} ${name}`)
    .filter((text, i) => i === 0 || !text.startsWith("0 "))
    .join(" ");
}

// The top of an axis: the least of 1, 2, 2.5, 5 times a power that is at least `most`; bytes and times, too.
function ceiling(most, least) {
  const wanted = Math.max(most, least);
  const power = 10 ** Math.floor(Math.log10(wanted));
  return [1, 2, 2.5, 5, 10].find(step => step * power >= wanted * 0.9999) * power;
}
