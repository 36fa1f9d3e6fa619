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
		"config":                         {"jobs", "phone", "problem", "rules", "storage"},
		"jobs":                           {"storage", "problem"},

		"handlers/access":      {"config", "problem"},
		"handlers/calls":       {"config", "problem", "storage", "ziwo"},
		"handlers/clicktocall": {"config", "handlers/ziwoclients", "phone", "problem", "ziwo"},
		"handlers/connections": {"config", "crm", "integration", "phone", "problem", "storage"}, // opens CRM accounts from their settings
		"handlers/decisions":   {"config", "problem", "rules", "storage"},
		"handlers/embeds":      {"config", "phone", "problem", "rules", "web"},
		"handlers/endcall":     {"config", "phone", "storage", "ziwo"},
		"handlers/live":        {"config", "handlers/ziwoclients", "jobs", "phone", "problem", "storage", "ziwo"},
		"handlers/lookup":      {"crm", "jobs", "phone", "problem", "storage"},
		"handlers/popup":       {"config", "crm", "phone", "problem", "storage", "ziwo"},
		"handlers/reconcile":   {"config", "handlers/ziwoclients", "jobs", "problem", "storage", "ziwo"},
		"handlers/recordings":  {"config", "handlers/ziwoclients", "jobs", "problem", "storage", "ziwo"},
		"handlers/register":    {"config", "rules", "ziwo"},
		"handlers/rejections":  {"storage"},
		"handlers/retention":   {"config", "jobs", "storage"},
		"handlers/secrets":     {"config", "problem", "storage"},
		"handlers/simulate":    {"config", "handlers/startcall", "phone", "problem", "rules", "ziwo"}, // a simulation is a start call that is not recorded
		"handlers/startcall":   {"config", "crm", "phone", "rules", "storage", "ziwo"},
		"handlers/ziwoclients": {"config", "problem", "storage", "ziwo"},
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
