package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The linter finds each slip that it is there for, and says nothing of a script
// that has none.
func TestLint(t *testing.T) {
	for name, c := range map[string]struct{ code, want string }{
		"fine":             {`function boot() { const a = document.title; return (b) => a === b; }`, ""},
		"no syntax":        {`function boot( {`, "expected"},
		"undeclared":       {`function boot() { return $(document); }`, "$ is declared nowhere"},
		"unused variable":  {`function boot() { const left = 1; }`, "left is declared and never used"},
		"unused parameter": {`function boot(left) { return 1; }`, "left is declared and never used"},
		"unused function":  {`function boot() { function left() {} }`, "left is declared and never used"},
		"var":              {`function boot() { var a = 1; return a; }`, "not var"},
		"loose comparison": {`function boot(a) { return a == null; }`, "==="},
		"loose inequality": {`function boot(a) { return a != 1; }`, "==="},
		"innerHTML":        {`function boot(a) { a.innerHTML = "<b>"; }`, "textContent"},
		"by index":         {`function boot(a) { a["outerHTML"] = "<b>"; }`, "textContent"},
		"adjacent":         {`function boot(a) { a.insertAdjacentHTML("beforeend", "<b>"); }`, "append"},
		"document.write":   {`function boot() { document.write("x"); }`, "append"},
		"eval":             {`function boot(a) { return window.isNaN(eval(a)); }`, "eval"},
		"Function":         {`function boot(a) { return new Function(a); }`, "Function"},
		"timer of text":    {`function boot() { setTimeout("alert()", 1); }`, "setTimeout makes code of text"},
		"handler property": {`function boot(a) { a.onclick = () => 1; }`, "addEventListener"},
		"handler in text":  {`function boot(a) { a.setAttribute("onclick", "x()"); }`, "strict policy"},
		"style in text":    {`function boot(a) { a.setAttribute("style", "x"); }`, "strict policy"},
		"script address":   {`function boot(a) { a.href = "javascript:x()"; }`, "an address that is code"},
		"debugger":         {`function boot() { debugger; }`, "not for scripts"},
		"console.log":      {`function boot() { console.log(1); }`, "debugging"},
	} {
		t.Run(name, func(t *testing.T) {
			err := lint("x.js", []byte(c.code))
			switch {
			case c.want == "" && err != nil:
				t.Errorf("a script without a slip: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("lint says %v, want %q", err, c.want)
			}
		})
	}
}

// What is served is what the sources give: lint and minification in one.
func TestServedScriptsAreCurrent(t *testing.T) {
	if err := run("..", true); err != nil {
		t.Error(err)
	}
}

func TestCheckFindsAServedFileThatIsOld(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "scripts"), os.DirFS("../scripts")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "served"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, false); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, true); err != nil {
		t.Errorf("just written, and yet: %v", err)
	}
	path := filepath.Join(dir, "served", "popup.js")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, true); err == nil || !strings.Contains(err.Error(), "popup.js") {
		t.Errorf("an old popup.js gives %v", err)
	}
}
