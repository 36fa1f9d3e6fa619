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
	feature := []string{"config", "crm", "jobs", "phone", "problem", "rules", "storage", "web", "ziwo"}
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
