package main

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestPackagesImportOnlyAllowedPackages checks that packages import only the
// packages that allowedImports lists, and that only libraryUsers import a library.
func TestPackagesImportOnlyAllowedPackages(t *testing.T) {
	feature := []string{"config", "crm", "jobs", "phone", "problem", "rules", "storage", "web", "ziwo"}
	allowedImports := map[string][]string{
		"phone":                          {},
		"openapi":                        {},
		"web":                            {},
		"integration":                    {},
		"problem":                        {},
		"storage/cache":                  {},
		"storage/spool":                  {},
		"storage/recordings":             {},
		"storage/writebehind":            {},
		"rules":                          {"phone", "problem"},
		"rules/rulestest":                {"rules"},
		"ziwo":                           {"phone"},
		"ziwo/ziwotest":                  {},
		"crm":                            {"integration", "phone"},
		"crm/builtin":                    {"crm", "crm/kustomer", "crm/zendesk"},
		"crm/crmtest":                    {},
		"crm/crmtest/suite":              {"crm", "crm/crmtest", "integration", "phone"},
		"crm/kustomer":                   {"crm", "integration", "phone"},
		"crm/zendesk":                    {"crm", "integration", "phone"},
		"storage":                        {"rules", "phone"},
		"storage/recordings/s3test":      {},
		"storage/sqlstore":               {"storage", "rules", "phone"},
		"storage/storetest":              {"storage", "rules", "phone"},
		"storage/storetest/daemon":       {},
		"storage/storetest/redistest":    {"storage/storetest/daemon"},
		"storage/storetest/postgrestest": {"storage/storetest/daemon"},
		"config":                         {"crm", "integration", "jobs", "phone", "problem", "rules", "storage"},
		"jobs":                           {"storage", "problem"},

		"handlers/access":      feature,
		"handlers/calls":       feature,
		"handlers/clicktocall": append([]string{"handlers/ziwoclients"}, feature...),
		"handlers/connections": append([]string{"integration"}, feature...), // opens CRM accounts from their settings
		"handlers/decisions":   feature,
		"handlers/embeds":      feature,
		"handlers/endcall":     feature,
		"handlers/live":        append([]string{"handlers/ziwoclients"}, feature...),
		"handlers/lookup":      feature,
		"handlers/popup":       feature,
		"handlers/reconcile":   append([]string{"handlers/endcall", "handlers/ziwoclients"}, feature...),
		"handlers/recordings":  append([]string{"handlers/ziwoclients"}, feature...),
		"handlers/register":    feature,
		"handlers/rejections":  feature,
		"handlers/retention":   feature,
		"handlers/secrets":     feature,
		"handlers/simulate":    append([]string{"handlers/startcall"}, feature...), // a simulation is a start call that is not recorded
		"handlers/startcall":   feature,
		"handlers/ziwoclients": feature,
	}
	// These packages may import any package of this module.
	unrestricted := []string{"openapi/generate", "openapi/openapitest", "server", "server/cli", "server/datadir", "server/demo", "server/httpapi", "tools/bench", "tools/endurance", "tools/endurance/run", "tools/prose", "web/generate"}
	libraryUsers := map[string][]string{ // packages that may import a library
		"gorm.io/gorm":               {"storage/sqlstore"},
		"modernc.org/sqlite":         {"storage/sqlstore", "tools/bench"},
		"github.com/labstack/echo":   {"server/httpapi", "tools/bench"},
		"go.yaml.in/yaml/v4":         {"config"},
		"github.com/nyaruka":         {"phone"},
		"github.com/alecthomas/kong": {"server", "server/cli"},
		"github.com/redis/go-redis":  {"storage/cache"},
		"github.com/minio":           {"storage/recordings"},
		"github.com/jackc/pgx":       {"storage/sqlstore", "storage/storetest/postgrestest", "tools/bench"},
		"github.com/evanw/esbuild":   {"web/generate"},
		"github.com/tdewolff/parse":  {"web/generate"},
	}
	const module = "calltracker/"
	found := 0
	for _, p := range listPackages(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module)
		allowed, known := allowedImports[pkg]
		if !known && !slices.Contains(unrestricted, pkg) {
			t.Errorf("%s has no entry in allowedImports or unrestricted", pkg)
			continue
		}
		found++
		for _, path := range p.Imports {
			if imported, ok := strings.CutPrefix(path, module); ok && known && !slices.Contains(allowed, imported) {
				t.Errorf("%s imports %s, want only %v", pkg, imported, allowed)
			}
			for library, users := range libraryUsers {
				if strings.HasPrefix(path, library) && !slices.Contains(users, pkg) {
					t.Errorf("%s imports %s, which only %v may import", pkg, path, users)
				}
			}
		}
		if pkg == "rules" && (slices.Contains(p.Imports, "net/http") || slices.Contains(p.Imports, "os")) {
			t.Error("rules imports net/http or os, want no I/O")
		}
	}
	if found < len(allowedImports) {
		t.Errorf("found %d packages, want at least %d", found, len(allowedImports))
	}
}

// TestBinaryExcludesTestingPackages checks that the binary includes the fake CRMs of
// the demo but no package that exists only for tests.
func TestBinaryExcludesTestingPackages(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "calltracker/server").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if !slices.Contains(packages, "calltracker/crm/crmtest") {
		t.Errorf("none of %d packages is crm/crmtest, which the demo needs", len(packages))
	}
	for _, p := range packages {
		if p == "testing" || strings.HasPrefix(p, "testing/") || p == "net/http/httptest" || strings.HasSuffix(p, "test/suite") {
			t.Errorf("binary includes %s", p)
		}
	}
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "calltracker/...")
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var packages []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); decoder.More(); {
		var p goPackage
		if err := decoder.Decode(&p); err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	return packages
}
