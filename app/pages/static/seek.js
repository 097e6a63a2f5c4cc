// Leads from a second on the page to that second of its video. Without this script the link opens the video there.
"use strict";

document.addEventListener("click", (event) => {
  const link = event.target.closest("a.seek");
  const video = document.querySelector("video");
  if (!link || !video || video.error || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  video.currentTime = Number(link.hash.slice("#t=".length));
  video.focus();
  video.scrollIntoView({ block: "nearest" });
});
