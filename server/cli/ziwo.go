package cli

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"calltracker/config"
	"calltracker/handlers/register"
	"calltracker/rules"
	"calltracker/server/datadir"
)

// ZiwoCommands are the commands that set up and check Ziwo.
type ZiwoCommands struct {
	Register  registerCommand  `cmd:"" help:"Create and update Ziwo's call trackers to match a configuration; shows the changes first."`
	Doctor    doctorCommand    `cmd:"" help:"Check credentials, clocks, URLs, keys, call trackers, and numbers."`
	Reconcile reconcileCommand `cmd:"" help:"Have a running server compare a period with Ziwo's call history and store missing calls."`
}

// ziwoTimeout is how long register and doctor may take.
const ziwoTimeout = 5 * time.Minute

// ziwoFlags are the flags of commands that use the contact centers of a
// configuration.
type ziwoFlags struct {
	File      string `arg:"" help:"Configuration file; - reads standard input."`
	PublicURL string `name:"public-url" env:"CALLTRACKER_PUBLIC_URL" default:"http://localhost:8080" help:"Public URL of the server, for Ziwo."`
	DataDir   string `name:"data-dir" env:"CALLTRACKER_DATA_DIR" default:"data" help:"Data directory of a server on this machine, with its secrets."`
	SecretKey string `name:"secret-key" env:"CALLTRACKER_SECRET_KEY" help:"Key that encrypts secrets, 32 bytes in base64; if empty, it is read from the data directory."`

	StartTimeout time.Duration `name:"start-timeout" default:"5s" help:"How long Ziwo waits for the answer to a start call."`
	EndTimeout   time.Duration `name:"end-timeout" default:"10s" help:"How long Ziwo waits for the answer to an end call."`

	doc        *config.Document  // set by load
	unresolved map[string]string // references without a value on this machine, and why
}

// load reads the configuration. A reference without a value on this machine is an
// error only if the value is needed later.
func (f *ziwoFlags) load(t *Terminal) (*rules.Set, error) {
	public, err := url.Parse(f.PublicURL)
	if err != nil || public.Host == "" || public.Scheme != "http" && public.Scheme != "https" {
		return nil, fmt.Errorf("invalid CALLTRACKER_PUBLIC_URL %q: use a URL such as https://calls.example.com", f.PublicURL)
	}
	f.PublicURL = strings.TrimRight(f.PublicURL, "/")
	text, err := t.readDocument(f.File)
	if err != nil {
		return nil, err
	}
	f.unresolved = map[string]string{}
	doc, set, problems := config.Load(text, formatOf(f.File), f.resolve)
	if set == nil {
		printProblems(t.Err, styleFor(t.Err), f.File, problems.Errors())
		return nil, ErrReported
	}
	if len(doc.ContactCenters) == 0 {
		return nil, fmt.Errorf("%s has no contact_centers: add yours, with its credentials", f.File)
	}
	f.doc = doc
	return set, nil
}

// resolve is a config resolver that remembers the references without a value.
func (f *ziwoFlags) resolve(kind, name string) (string, error) {
	value, err := f.localValue(kind, name)
	if err == nil {
		return value, nil
	}
	f.unresolved["${"+kind+":"+name+"}"] = err.Error()
	return "", fmt.Errorf("%w (%w)", config.ErrUnresolvedHere, err)
}

// localValue returns the value of a reference: an environment variable, or a secret
// in the data directory of a server on this machine.
func (f *ziwoFlags) localValue(kind, name string) (string, error) {
	if kind == "env" {
		if value, ok := os.LookupEnv(name); ok {
			return value, nil
		}
		return "", errors.New("the environment variable is not set")
	}
	lastGood, err := datadir.LastGood{Path: filepath.Join(f.DataDir, datadir.LastGoodFile)}.Load()
	if err != nil {
		return "", fmt.Errorf("only the server has the secrets: apply the configuration, and then run this command on the server's machine, or set --data-dir (%s has no configuration)", f.DataDir)
	}
	text := f.SecretKey
	if text == "" {
		content, err := os.ReadFile(filepath.Join(f.DataDir, datadir.SecretKeyFile))
		if err != nil {
			return "", fmt.Errorf("no secret key: set CALLTRACKER_SECRET_KEY, or --data-dir to the directory with %s (looked in %s)", datadir.SecretKeyFile, f.DataDir)
		}
		text = string(content)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return "", errors.New("invalid secret key: use base64")
	}
	vault, err := config.NewVault(key)
	if err != nil {
		return "", err
	}
	value, err := lastGood.Secret(vault, name)
	if err != nil {
		return "", fmt.Errorf("not in the last configuration of the server with the data directory %s: store it with PUT /api/v1/secrets/%s, and apply the configuration (%w)", f.DataDir, name, err)
	}
	return value, nil
}

// printUnresolved prints the references without a value on this machine.
func (f *ziwoFlags) printUnresolved(t *Terminal) {
	for _, reference := range slices.Sorted(maps.Keys(f.unresolved)) {
		fmt.Fprintf(t.Err, "  %s: %s\n", reference, f.unresolved[reference])
	}
}

// registration returns the settings of call trackers in Ziwo.
func (f *ziwoFlags) registration() register.Registration {
	return register.Registration{PublicURL: f.PublicURL, StartTimeout: f.StartTimeout, EndTimeout: f.EndTimeout}
}
