package config_test

import (
	"fmt"
	"strings"
	"testing"

	"calltracker/config"
)

// books is a driver with a required setting and a secret one.
var books = config.Driver{Name: "books", Secrets: []string{"code"}, Check: func(settings map[string]string) []config.SettingProblem {
	var problems []config.SettingProblem
	if settings["shelf"] == "" {
		problems = append(problems, config.SettingProblem{Setting: "shelf", Message: "books needs shelf"})
	}
	for name := range settings {
		if name != "shelf" && name != "code" {
			problems = append(problems, config.SettingProblem{Setting: name, Message: "books does not have this setting"})
		}
	}
	return problems
}}

func TestDriversCheckSettings(t *testing.T) {
	document := func(connections string) string {
		return "trackers:\n  t: {keys: {start: open, end: open}, routes: [{id: all, voicemail: true}]}\nconnections:\n" + connections
	}
	resolve := func(_, name string) (string, error) {
		if name == "GONE" {
			return "", fmt.Errorf("the environment variable %s is not set", name)
		}
		return "from-" + name, nil
	}
	for _, tt := range []struct{ name, connections, want string }{
		{"fine", "  a:\n    driver: books\n    settings: {shelf: top, code: \"${env:CODE}\"}\n", ""},
		{"unknown driver", "  a:\n    driver: boks\n", `5:13 connections.a.driver: unknown driver "boks"; did you mean "books"?`},
		{"missing", "  a:\n    driver: books\n    settings: {code: \"${env:CODE}\"}\n", "6:15 connections.a.settings.shelf: books needs shelf"},
		{"no settings at all", "  a:\n    driver: books\n", "5:5 connections.a.settings.shelf: books needs shelf"},
		{"unknown setting", "  a:\n    driver: books\n    settings:\n      shelf: top\n      color: red\n", "8:14 connections.a.settings.color: books does not have this setting"},
		{"unresolved is reported once", "  a:\n    driver: books\n    settings: {shelf: \"${env:GONE}\"}\n", "6:23 connections.a.settings.shelf: ${env:GONE}: the environment variable GONE is not set"},
		{"literal secret", "  a:\n    driver: books\n    settings: {shelf: top, code: abc}\n", "6:34 connections.a.settings.code: the document contains a secret as plain text: use ${env:NAME} or ${secret:NAME}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, problems := config.Load([]byte(document(tt.connections)), config.YAML, resolve, books)
			var got []string
			for _, p := range problems {
				if strings.HasPrefix(p.Path, "connections") {
					got = append(got, fmt.Sprintf("%d:%d %s: %s", p.Line, p.Column, p.Path, p.Message))
				}
			}
			if strings.Join(got, "\n") != tt.want {
				t.Errorf("problems\n%s\nwant\n%s", strings.Join(got, "\n"), tt.want)
			}
		})
	}
	if _, set, _ := config.Load([]byte(document("  a: {driver: anything, settings: {x: \"1\"}}\n")), config.YAML, resolve); set == nil {
		t.Error("settings are checked without drivers")
	}
}
