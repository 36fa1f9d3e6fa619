package config

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"calltracker/phone"
	"calltracker/problem"
	"calltracker/rules"
)

// validator checks what the decoder cannot see: what values mean, and whether
// the names that they refer to exist. The routing is checked by rules.Compile.
type validator struct {
	problem.Report
	doc        *Document
	unreadable map[string]bool // true for the path of a value that could not be read, false for those of its parents
	drivers    map[string]Driver
}

func newValidator(doc *Document, found problem.List, drivers []Driver) *validator {
	v := &validator{doc: doc, unreadable: map[string]bool{}, drivers: map[string]Driver{}}
	for _, p := range found {
		v.unreadable[p.Path] = true
		for path := parent(p.Path); path != ""; path = parent(path) {
			if _, known := v.unreadable[path]; known {
				break
			}
			v.unreadable[path] = false
		}
	}
	for _, d := range drivers {
		v.drivers[d.Name] = d
	}
	return v
}

// incomplete reports whether the value at path, or a part of it, could not be
// read. The decoder has reported that already.
func (v *validator) incomplete(path string) bool {
	_, known := v.unreadable[path]
	return known
}

func (v *validator) validate() {
	v.trackers()
	v.contactCenters()
	v.sites()
	v.connections()
	v.tests()
	v.unusedNames()
}

// reservedTracker is the id of the demonstration endpoints that Ziwo documents.
const reservedTracker = "example"

func (v *validator) trackers() {
	for _, id := range sortedKeys(v.doc.Trackers) {
		doc, path := v.doc.Trackers[id], "trackers."+id
		if id == reservedTracker {
			v.Errorf(path, "tracker id %q is reserved for Ziwo's demonstration endpoints: choose another", id)
		}
		if _, ok := v.doc.ContactCenters[doc.ContactCenter]; doc.ContactCenter != "" && !ok {
			v.Unknown(path+".contact_center", "contact center", doc.ContactCenter, maps.Keys(v.doc.ContactCenters))
		}
		v.keys(path, "start", doc.Keys.Start)
		v.keys(path, "end", doc.Keys.End)
		if at := path + ".customer_wait"; doc.CustomerWait != nil && !doc.readsCustomer() && !v.incomplete(at) {
			v.Warnf(at, "customer_wait has no effect: no route of this tracker depends on the customer")
		}
	}
}

// readsCustomer reports whether a route of the tracker depends on the customer.
func (t Tracker) readsCustomer() bool {
	return slices.ContainsFunc(t.Routes, func(r rules.Route) bool {
		return slices.ContainsFunc(r.When, rules.Condition.ReadsCustomer)
	})
}

// keys checks the start or end keys of the tracker at a path.
func (v *validator) keys(tracker, side string, doc KeyList) {
	path := tracker + ".keys." + side
	if doc.Open {
		v.Warnf(path, "no key is required: anyone who knows the URL can send %s calls", side)
		return
	}
	if len(doc.Keys) == 0 && !v.incomplete(tracker+".keys") && !v.unreadable[tracker] {
		v.Warnf(path, "no %s key is set, so every %s call is rejected: list keys, or write open", side, side)
	}
	for i, key := range doc.Keys {
		if key.Literal() {
			v.Warnf(fmt.Sprintf("%s[%d]", path, i), "the document contains a key as plain text: use ${env:NAME} or ${secret:NAME}")
		}
	}
}

// unusedNames warns about schedules and calendars that nothing refers to.
func (v *validator) unusedNames() {
	schedules, calendars := map[string]bool{}, map[string]bool{}
	for _, t := range v.doc.Trackers {
		for _, r := range t.Routes {
			for _, name := range r.During {
				schedules[name] = true
			}
		}
	}
	for _, s := range v.doc.Sites {
		for _, name := range s.OfflineOutside {
			schedules[name] = true
		}
	}
	for _, s := range v.doc.Schedules {
		for _, name := range s.Closed {
			calendars[name] = true
		}
	}
	for _, name := range sortedKeys(v.doc.Schedules) {
		if !schedules[name] {
			v.Warnf("schedules."+name, "schedule %q is not used", name)
		}
	}
	for _, name := range sortedKeys(v.doc.Calendars) {
		if !calendars[name] {
			v.Warnf("calendars."+name, "calendar %q is not used", name)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (v *validator) contactCenters() {
	for _, name := range sortedKeys(v.doc.ContactCenters) {
		doc, path := v.doc.ContactCenters[name], "contact_centers."+name
		if doc.API != "" && !isBaseURL(doc.API) {
			v.Errorf(path+".api", "invalid URL %q: write it as https://host", problem.Clip(doc.API))
		}
		for _, s := range []struct {
			name   string
			secret Secret
		}{{"password", doc.Password}, {"access_token", doc.AccessToken}, {"api_key", doc.APIKey}} {
			v.literal(path+"."+s.name, s.secret)
		}
		for i, key := range doc.WebhookKeys {
			v.literal(fmt.Sprintf("%s.webhook_keys[%d]", path, i), key)
		}
		v.recordings(path+".recordings", doc)
	}
}

// Names that all object stores and file systems accept
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html).
var (
	bucketName   = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	objectPrefix = regexp.MustCompile(`^([A-Za-z0-9_-][A-Za-z0-9_.-]*/?)*$`)
)

func (v *validator) recordings(path string, center ContactCenter) {
	doc := center.Recordings
	for i, style := range doc.Styles {
		if slices.Contains(doc.Styles[:i], style) {
			v.Warnf(fmt.Sprintf("%s.styles[%d]", path, i), "%s is listed twice", style)
		}
	}
	switch {
	case doc.Keep == "" && doc.Days > 0:
		v.Warnf(path+".days", "days has no effect without keep: no copies are made")
	case doc.Keep == KeepInS3 && doc.S3 == nil && !v.incomplete(path+".s3"):
		v.Errorf(path+".keep", "keep: s3 needs a bucket: add s3 with endpoint, bucket, access_key, and secret_key")
	case doc.Keep != KeepInS3 && doc.S3 != nil:
		v.Warnf(path+".s3", "this bucket is not used: set keep to s3")
	}
	has := func(key string, s Secret) bool { // an unresolved reference counts as present
		_, written := v.doc.positions[parent(path)+"."+key]
		return written || s.Reveal() != ""
	}
	if doc.Keep != "" && !has("access_token", center.AccessToken) && (!has("username", center.Username) || !has("password", center.Password)) {
		v.Warnf(path+".keep", "recordings cannot be fetched: set username and password, or access_token")
	}
	if doc.S3 == nil {
		return
	}
	path += ".s3"
	if at := path + ".endpoint"; doc.S3.Endpoint != "" && !isBaseURL(doc.S3.Endpoint) {
		v.Errorf(at, "invalid URL %q: write it as https://host", problem.Clip(doc.S3.Endpoint))
	}
	if at := path + ".bucket"; doc.S3.Bucket != "" && !bucketName.MatchString(doc.S3.Bucket) {
		v.Errorf(at, "invalid bucket name %q: use 3 to 63 lower-case letters, digits, dots, and hyphens", problem.Clip(doc.S3.Bucket))
	}
	if at := path + ".prefix"; len(doc.S3.Prefix) > 500 || !objectPrefix.MatchString(doc.S3.Prefix) {
		v.Errorf(at, "invalid prefix %q: use letters, digits, dots, dashes, underscores, and slashes, such as recordings/", problem.Clip(doc.S3.Prefix))
	}
	v.literal(path+".secret_key", doc.S3.SecretKey)
}

func (v *validator) literal(path string, s Secret) {
	if s.Literal() {
		v.Warnf(path, "the document contains a secret as plain text: use ${env:NAME} or ${secret:NAME}")
	}
}

func (v *validator) connections() {
	for _, name := range sortedKeys(v.doc.Connections) {
		doc, path := v.doc.Connections[name], "connections."+name
		var wrong []string // settings with a problem
		driver, known := v.drivers[doc.Driver]
		switch {
		case doc.Driver != "" && !rules.ValidName(doc.Driver):
			v.Errorf(path+".driver", "invalid driver %q", problem.Clip(doc.Driver))
		case known:
			wrong = v.settings(path+".settings", driver, doc.Settings)
		case doc.Driver != "" && len(v.drivers) > 0:
			v.Unknown(path+".driver", "driver", doc.Driver, maps.Keys(v.drivers))
		}
		for _, setting := range sortedKeys(doc.Settings) {
			at := path + ".settings." + setting
			if secretName(setting) || slices.Contains(driver.Secrets, setting) {
				v.literal(at, doc.Settings[setting].Secret)
			}
			if value := doc.Settings[setting]; strings.HasSuffix(setting, "_url") && value.Reveal() != "" && !isBaseURL(value.Reveal()) && !slices.Contains(wrong, setting) {
				v.Errorf(at, "invalid URL: write it as https://host") // does not quote the value, which may be a secret
			}
		}
	}
}

// settings lets the driver check the settings of a connection, and returns the
// names of those that are wrong.
func (v *validator) settings(path string, driver Driver, settings map[string]Setting) (wrong []string) {
	texts := make(map[string]string, len(settings))
	for name, value := range settings {
		texts[name] = value.Reveal()
	}
	for _, p := range driver.Check(texts) {
		wrong = append(wrong, p.Setting)
		if at := path + "." + p.Setting; !v.incomplete(at) {
			v.Errorf(at, "%s", p.Message)
		}
	}
	return wrong
}

// secretName reports whether the name of a setting suggests a secret.
func secretName(name string) bool {
	for _, word := range []string{"key", "token", "secret", "password"} {
		if strings.Contains(strings.ToLower(name), word) {
			return true
		}
	}
	return false
}

func (v *validator) sites() {
	for _, name := range sortedKeys(v.doc.Sites) {
		doc, path := v.doc.Sites[name], "sites."+name
		for i, origin := range doc.Origins {
			at := fmt.Sprintf("%s.origins[%d]", path, i)
			if u, err := url.Parse(origin); !v.incomplete(at) && (err != nil || u.Host == "" || u.User != nil ||
				(u.Scheme != "https" && u.Scheme != "http") || u.Scheme+"://"+u.Host != origin) {
				v.Errorf(at, "invalid origin %q: write it as https://host or https://host:port, without a path", problem.Clip(origin))
			}
		}
		for i, key := range doc.Keys {
			v.literal(fmt.Sprintf("%s.keys[%d]", path, i), key)
		}
		if _, ok := v.doc.ContactCenters[doc.ContactCenter]; doc.ContactCenter != "" && !ok {
			v.Unknown(path+".contact_center", "contact center", doc.ContactCenter, maps.Keys(v.doc.ContactCenters))
		}
		for i, schedule := range doc.OfflineOutside {
			at := fmt.Sprintf("%s.offline_outside[%d]", path, i)
			if _, ok := v.doc.Schedules[schedule]; !ok {
				v.Unknown(at, "schedule", schedule, maps.Keys(v.doc.Schedules))
				continue
			}
		}
		if doc.OfflineOutside != nil && doc.WebCallback == nil {
			v.Warnf(path+".offline_outside", "offline_outside has no effect: this site has no webcallback")
		}
		if doc.WebCallback != nil {
			v.webCallback(path+".webcallback", doc.WebCallback)
		}
		if doc.Jorel != nil {
			v.jorel(path+".jorel", doc.Jorel)
		}
		if doc.Popup != nil {
			v.popup(path+".popup", doc.Popup)
			if len(doc.Keys) == 0 {
				v.Warnf(path, "this site has no keys: its pop-up works only with a signed token")
			}
		}
		if doc.WebCallback == nil && doc.Jorel == nil && doc.Popup == nil {
			v.Warnf(path, "this site embeds nothing: add webcallback, jorel, or popup")
		}
	}
}

// language matches a language tag, as in the lang attribute of a page.
var language = regexp.MustCompile(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$`)

// ziwoTexts are the custom texts that Ziwo documents.
var ziwoTexts = []string{
	"mainButtonTooltip", "offlineButtonTooltip", "formTitle", "formInputLabel", "formButton",
	"successTitle", "successMessage", "failureTitle", "failureMessage",
}

// ReservedKey is the key in the configuration of an embedded script under which the
// server adds its own settings.
const ReservedKey = "calltracker"

func (v *validator) webCallback(path string, doc *WebCallback) {
	if _, taken := doc.Other[ReservedKey]; taken {
		v.Errorf(path+"."+ReservedKey, "key %q is reserved for the server", ReservedKey)
	}
	for i, extension := range doc.Extensions {
		if at := fmt.Sprintf("%s.extensions[%d]", path, i); extension == "" && !v.incomplete(at) {
			v.Errorf(at, "the extension is empty")
		}
	}
	v.translations(path+".customTexts", doc.CustomTexts, ziwoTexts, func(at, key, hint string) {
		v.Warnf(at, "Ziwo does not document the text %q%s", problem.Clip(key), hint)
	})
}

// translations checks the languages of custom texts. It calls report for each
// unknown text, with a hint at a known one that is similar.
func (v *validator) translations(path string, doc map[string]Translation, known []string, report func(at, key, hint string)) {
	check := func(at, key string) {
		if slices.Contains(known, key) {
			return
		}
		hint := ""
		if similar := problem.Nearest(key, known); similar != "" {
			hint = fmt.Sprintf("; did you mean %q?", similar)
		}
		report(at, key, hint)
	}
	for _, key := range sortedKeys(doc) {
		at := path + "." + key
		if doc[key].Texts == nil {
			check(at, key)
			continue
		}
		if !language.MatchString(key) {
			v.Errorf(at, "invalid language %q: use a language tag such as en, fr, or ar", problem.Clip(key))
		}
		for _, text := range sortedKeys(doc[key].Texts) {
			check(at+"."+text, text)
		}
	}
}

func (v *validator) jorel(path string, doc *Jorel) {
	calls := doc.ClickToCall
	if calls == nil {
		return
	}
	if !calls.Links && !calls.Text && len(calls.Selectors) == 0 {
		v.Warnf(path+".clickToCall", "clickToCall has no effect: set links, selectors, or text")
	}
	for i, selector := range calls.Selectors {
		if at := fmt.Sprintf("%s.clickToCall.selectors[%d]", path, i); strings.TrimSpace(selector) == "" && !v.incomplete(at) {
			v.Errorf(at, "the selector is empty")
		}
	}
	if region := strings.ToUpper(doc.DefaultRegionCode); region == "" {
		v.Warnf(path+".clickToCall", "only international numbers can be called: set defaultRegionCode for national numbers")
	} else if !phone.KnownRegion(region) && !v.incomplete(path+".defaultRegionCode") {
		v.Errorf(path+".defaultRegionCode", "invalid country %q: use two letters such as AE", problem.Clip(doc.DefaultRegionCode))
	}
}

// callStates are the states of a call in Ziwo's browser events
// (https://www.ziwo.io/api-integration-developers/).
var callStates = []string{"requesting", "trying", "early", "ringing", "answering", "active", "held", "hangup", "destroy", "recovering"}

// cardTexts are the texts on the card of the pop-up.
var cardTexts = []string{"inbound", "outbound", "open", "close", "choose", "none", "unavailable", "search", "looking"}

func (v *validator) popup(path string, doc *Popup) {
	for i, name := range doc.Connections {
		if _, ok := v.doc.Connections[name]; !ok {
			v.Unknown(fmt.Sprintf("%s.connections[%d]", path, i), "connection", name, maps.Keys(v.doc.Connections))
		}
	}
	for i, state := range doc.On {
		if !slices.Contains(callStates, state) {
			v.Errorf(fmt.Sprintf("%s.on[%d]", path, i), "invalid call state %q: use one of %s", problem.Clip(state), strings.Join(callStates, ", "))
		}
	}
	v.translations(path+".texts", doc.Texts, cardTexts, func(at, key, hint string) {
		v.Errorf(at, "unknown card text %q: use one of %s%s", problem.Clip(key), strings.Join(cardTexts, ", "), hint)
	})
}

func isBaseURL(value string) bool {
	u, err := url.Parse(value)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") && u.User == nil
}

func (v *validator) tests() {
	for i, doc := range v.doc.Tests {
		path := fmt.Sprintf("tests[%d]", i)
		tracker, ok := v.doc.Trackers[doc.Tracker]
		if !ok {
			if doc.Tracker != "" {
				v.Unknown(path+".tracker", "tracker", doc.Tracker, maps.Keys(v.doc.Trackers))
			}
			continue
		}
		if want := doc.Expect.Route; want != nil {
			routes := make(map[string]rules.Route, len(tracker.Routes))
			for _, r := range tracker.Routes {
				routes[r.ID] = r
			}
			if _, ok := routes[*want]; !ok {
				v.Unknown(path+".expect.route", "route", *want, maps.Keys(routes))
			}
		}
		if doc.Expect == (Expectation{}) && !v.incomplete(path) {
			v.Errorf(path+".expect", "the test expects nothing: add route, numbers, or voicemail")
		}
	}
}
