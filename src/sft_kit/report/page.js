"use strict";
(() => {
  const form = document.getElementById("filters");
  if (form) {
    const rows = [...document.querySelectorAll("#answers tbody tr")];
    const count = document.getElementById("shown");
    const reset = document.getElementById("reset");
    const texts = new Map();
    const text = (row) => {
      if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
      return texts.get(row);
    };
    const apply = () => {
      const wanted = [...form.elements].filter((field) => field.name && field.value.trim());
      let shown = 0;
      for (const row of rows) {
        row.hidden = !wanted.every((field) => field.name === "search"
          ? text(row).includes(field.value.trim().toLowerCase())
          : (row.dataset[field.name] || "").split(" ").includes(field.value));
        shown += !row.hidden;
      }
      count.textContent = `${shown} of ${rows.length} questions`;
      reset.hidden = !wanted.length;
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    reset.addEventListener("click", () => { form.reset(); apply(); });
    for (const link of document.querySelectorAll("a[data-filter]")) {
      link.addEventListener("click", () => {
        form.reset();
        for (const pair of link.dataset.filter.split(" ")) {
          const [name, value] = pair.split("=");
          form.elements[name].value = value;
        }
        apply();
      });
    }
    form.hidden = false;
    apply();
  }
  for (const button of document.querySelectorAll("button[data-copy]")) {
    const source = document.getElementById(button.dataset.copy);
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
})();
