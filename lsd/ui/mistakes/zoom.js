// A picture is enlarged in a dialog, where it can be downloaded.
element.addEventListener("click", event => {
  const button = event.target.closest(".lsd-m-zoom");
  if (!button) return;
  const image = button.querySelector("img");
  const dialog = document.createElement("dialog");
  dialog.className = "lsd-m-dialog";
  const large = Object.assign(new Image(), {src: image.src, alt: image.alt});
  const save = Object.assign(document.createElement("a"), {href: image.src, textContent: "Download"});
  save.download = `${button.dataset.name.replace(/[^\w.-]+/g, "-")}.${image.src.slice(11, 14) === "png" ? "png" : "jpg"}`;
  const close = Object.assign(document.createElement("button"), {type: "button", textContent: "Close"});
  const bar = document.createElement("p");
  bar.append(save, close);
  dialog.append(large, bar);
  dialog.setAttribute("aria-label", image.alt);
  dialog.addEventListener("click", event => { if (event.target !== save) dialog.close(); });
  dialog.addEventListener("close", () => dialog.remove());
  (element.closest(".gradio-container") || document.body).append(dialog);
  dialog.showModal();
});
