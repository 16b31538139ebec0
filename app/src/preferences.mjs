// What this browser remembers besides conversations.
const KEY = "llama-bridge.preferences";

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // switched off, or not ours
  }
}

export const preferences = { language: "", model: "", costs: false, last: null, ...read() };

export function savePreferences() {
  try {
    localStorage.setItem(KEY, JSON.stringify(preferences));
  } catch {} // then a reload forgets
}
