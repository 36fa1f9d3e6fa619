#!/bin/sh
# Writes terminal.svg, the picture in the README: two commands and their real
# output. Run it from the root of the repository after a change to the output:
#
#   sh docs/images/terminal.sh
set -eu

columns=104

# show COMMAND... runs a command of the server and prints it as a terminal does.
show() {
	printf '$ calltracker %s\n' "$*"
	go run ../server "$@" 2>&1
}

cd examples
{
	show check quickstart.yaml
	echo
	show simulate quickstart.yaml --tracker sales --did 061234567 --at 2026-11-23T10:00:00+04:00
} | awk -v columns="$columns" '
	function escape(text) {
		gsub(/&/, "\\&amp;", text)
		gsub(/</, "\\&lt;", text)
		gsub(/>/, "\\&gt;", text)
		return text
	}
	function class(line) {
		if (line ~ /^\$ /) return "command"
		if (line ~ /^ok /) return "ok"
		if (line ~ /: warning: /) return "warning"
		if (line ~ /^ +route +verdict/ || line ~ /^answer to Ziwo/) return "dim"
		if (line ~ /^FAIL/ || line ~ /: error: /) return "error"
		return ""
	}
	{
		style = class($0)
		rest = $0
		do {
			lines[++count] = substr(rest, 1, columns)
			styles[count] = style
			rest = substr(rest, columns + 1)
		} while (rest != "")
	}
	END {
		width = columns * 7.83 + 48
		height = count * 20 + 74
		printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"A terminal: calltracker checks a configuration, runs its tests, and explains where a call goes\">\n", width, height
		print "  <style>"
		print "    text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #d7dee8; white-space: pre; }"
		print "    .command { fill: #fff; font-weight: 600; } .ok { fill: #7ee2a8; } .warning { fill: #f0b55b; } .error { fill: #ff8f8f; } .dim { fill: #93a1b3; }"
		print "  </style>"
		printf "  <rect x=\".5\" y=\".5\" width=\"%d\" height=\"%d\" rx=\"10\" fill=\"#141a23\" stroke=\"#4a5768\"/>\n", width - 1, height - 1
		print "  <circle cx=\"22\" cy=\"20\" r=\"5\" fill=\"#ff6b60\"/><circle cx=\"40\" cy=\"20\" r=\"5\" fill=\"#ffc04a\"/><circle cx=\"58\" cy=\"20\" r=\"5\" fill=\"#4cc964\"/>"
		for (i = 1; i <= count; i++) {
			if (lines[i] == "") continue
			attribute = styles[i] == "" ? "" : " class=\"" styles[i] "\""
			printf "  <text%s x=\"24\" y=\"%d\" xml:space=\"preserve\">%s</text>\n", attribute, 42 + i * 20, escape(lines[i])
		}
		print "</svg>"
	}
' >../docs/images/terminal.svg.new
mv ../docs/images/terminal.svg.new ../docs/images/terminal.svg
