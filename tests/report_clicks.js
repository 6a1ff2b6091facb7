// What a reader of Snakemake's report does: opens the main table, then every figure. Afterwards the page holds
// nothing but what was seen, as JSON.
async function until(probe) {
  for (;;) {
    const found = probe();
    if (found) return found;
    await new Promise((resume) => setTimeout(resume, 20));
  }
}
const link = (text) => [...document.querySelectorAll("a")].find((a) => a.textContent.trim() === text);
const eye = (label) =>
  [...document.querySelectorAll("tr")].find((row) => row.cells[0].textContent === label)?.querySelector("a");

(async () => {
  const seen = { figures: {} };
  let shown = "";
  (await until(() => link("Tables"))).click();
  (await until(() => eye("main"))).click();
  const frame = await until(() => document.querySelector("iframe"));
  const page = await (await fetch(frame.src)).text();
  const table = new DOMParser().parseFromString(page, "text/html").querySelector("table");
  seen.rows = [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent));
  for (const [group, labels] of Object.entries(FIGURES)) {
    document.querySelector("nav ol a").click(); // home
    await until(() => link("Statistics"));
    link("Figures").click();
    (await until(() => link(group))).click();
    for (const label of labels) {
      (await until(() => eye(label))).click();
      const image = await until(() =>
        [...document.images].find((i) => i.src.startsWith("data:image/png") && i.src !== shown && i.naturalWidth),
      );
      shown = image.src;
      seen.figures[label] = image.naturalWidth;
    }
  }
  document.body.textContent = JSON.stringify(seen);
})();
