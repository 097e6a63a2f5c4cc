// Keys for the buttons of a review. A decision needs a reason first: without one its key leads to the field.
"use strict";

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select, video")) return;
  const control = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (!control) return;
  event.preventDefault();
  const reason = document.getElementById("reason");
  if (control.matches("button") && !reason.value.trim()) {
    reason.focus();
  } else {
    control.click();
  }
});

// Escape leaves the field, so that the keys work again.
document.getElementById("reason")?.addEventListener("keydown", (event) => {
  if (event.key === "Escape") event.target.blur();
});
