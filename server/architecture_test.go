package main

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestRoomsImportOnlyWhatTheyMay holds the map of the rooms: nothing imports
// upward, and some libraries stay in one room.
func TestRoomsImportOnlyWhatTheyMay(t *testing.T) {
	may := map[string][]string{
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
	// Programs and packages for tests may import everything.
	anything := []string{"openapi/generate", "openapi/openapitest", "server", "server/cli", "server/datadir", "server/demo", "server/httpapi", "tools/bench", "tools/endurance", "tools/endurance/run", "tools/prose", "web/generate"}
	only := map[string][]string{
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
	rooms := 0
	for _, p := range listPackages(t) {
		room := strings.TrimPrefix(p.ImportPath, module)
		allowed, known := may[room]
		if !known && !slices.Contains(anything, room) {
			t.Errorf("%s is a room that the map does not have", room)
			continue
		}
		rooms++
		for _, path := range p.Imports {
			if inside, ok := strings.CutPrefix(path, module); ok && known && !slices.Contains(allowed, inside) {
				t.Errorf("%s imports %s", room, inside)
			}
			for library, homes := range only {
				if strings.HasPrefix(path, library) && !slices.Contains(homes, room) {
					t.Errorf("%s imports %s, which belongs to %v", room, path, homes)
				}
			}
		}
		if room == "rules" && (slices.Contains(p.Imports, "net/http") || slices.Contains(p.Imports, "os")) {
			t.Error("rules does I/O")
		}
	}
	if rooms < len(may) {
		t.Errorf("only %d rooms were found", rooms)
	}
}

// The demonstration brings fakes along, but nothing of tests.
func TestTheProgramHoldsNothingOfTests(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "calltracker/server").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if !slices.Contains(packages, "calltracker/crm/crmtest") {
		t.Errorf("%d packages, and none of the demonstration", len(packages))
	}
	for _, p := range packages {
		if p == "testing" || strings.HasPrefix(p, "testing/") || p == "net/http/httptest" || strings.HasSuffix(p, "test/suite") {
			t.Errorf("the program holds %s", p)
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
