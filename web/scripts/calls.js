// Calls.
function calls(config) {
  return config;
}
