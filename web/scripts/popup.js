// Popup.
function popup(config) {
  return config;
}
