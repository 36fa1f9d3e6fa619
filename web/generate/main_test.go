package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLint(t *testing.T) {
	for name, c := range map[string]struct{ code, want string }{
		"valid":              {`function boot() { const a = document.title; return (b) => a === b; }`, ""},
		"syntax error":       {`function boot( {`, "expected"},
		"undeclared":         {`function boot() { return $(document); }`, "undeclared name $"},
		"unused variable":    {`function boot() { const left = 1; }`, "left is declared but never used"},
		"unused parameter":   {`function boot(left) { return 1; }`, "left is declared but never used"},
		"unused function":    {`function boot() { function left() {} }`, "left is declared but never used"},
		"var":                {`function boot() { var a = 1; return a; }`, "not var"},
		"loose comparison":   {`function boot(a) { return a == null; }`, "==="},
		"loose inequality":   {`function boot(a) { return a != 1; }`, "==="},
		"innerHTML":          {`function boot(a) { a.innerHTML = "<b>"; }`, "textContent"},
		"property by index":  {`function boot(a) { a["outerHTML"] = "<b>"; }`, "textContent"},
		"insertAdjacentHTML": {`function boot(a) { a.insertAdjacentHTML("beforeend", "<b>"); }`, "append"},
		"document.write":     {`function boot() { document.write("x"); }`, "append"},
		"eval":               {`function boot(a) { return window.isNaN(eval(a)); }`, "eval"},
		"Function":           {`function boot(a) { return new Function(a); }`, "Function"},
		"timer with text":    {`function boot() { setTimeout("alert()", 1); }`, "setTimeout runs text as code"},
		"handler property":   {`function boot(a) { a.onclick = () => 1; }`, "addEventListener"},
		"handler attribute":  {`function boot(a) { a.setAttribute("onclick", "x()"); }`, "strict content security policy"},
		"style attribute":    {`function boot(a) { a.setAttribute("style", "x"); }`, "strict content security policy"},
		"javascript URL":     {`function boot(a) { a.href = "javascript:x()"; }`, "javascript: URLs run text as code"},
		"debugger":           {`function boot() { debugger; }`, "do not use this in scripts"},
		"console.log":        {`function boot() { console.log(1); }`, "debugging"},
	} {
		t.Run(name, func(t *testing.T) {
			err := lint("x.js", []byte(c.code))
			switch {
			case c.want == "" && err != nil:
				t.Errorf("lint(valid script) = %v, want nil", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("lint = %v, want an error that contains %q", err, c.want)
			}
		})
	}
}

func TestServedScriptsAreCurrent(t *testing.T) {
	if err := run("..", true); err != nil {
		t.Error(err)
	}
}

func TestCheckReportsOutdatedServedFile(t *testing.T) {
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
		t.Errorf("check right after writing: %v", err)
	}
	path := filepath.Join(dir, "served", "popup.js")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, true); err == nil || !strings.Contains(err.Error(), "popup.js") {
		t.Errorf("check with an outdated popup.js = %v, want an error that names it", err)
	}
}
