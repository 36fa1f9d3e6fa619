package rules

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"calltracker/phone"
)

// This file checks what other parts of the product act on: contact centres,
// sites and connections are data to the engine.

func (c *compiler) contactCenters() {
	for _, name := range keysOf(c.doc.ContactCenters) {
		doc, path := c.doc.ContactCenters[name], "contact_centers."+name
		if doc.API != "" && !isBaseURL(doc.API) {
			c.fail(path+".api", "%q is no address; write https://host", clip(doc.API))
		}
		for _, s := range []struct {
			name   string
			secret Secret
		}{{"password", doc.Password}, {"access_token", doc.AccessToken}, {"api_key", doc.APIKey}} {
			c.literal(path+"."+s.name, s.secret)
		}
		var ring KeyRing
		for i, key := range doc.WebhookKeys {
			c.literal(fmt.Sprintf("%s.webhook_keys[%d]", path, i), key)
			ring.add(key.Reveal())
		}
		c.set.webhooks = append(c.set.webhooks, webhook{contactCenter: name, keys: ring})
		c.recordings(path+".recordings", doc)
	}
}

// What names in a bucket are made of, so that no store and no file takes offence
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html).
var (
	bucketName   = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	objectPrefix = regexp.MustCompile(`^([A-Za-z0-9_-][A-Za-z0-9_.-]*/?)*$`)
)

func (c *compiler) recordings(path string, center ContactCenter) {
	doc := center.Recordings
	for i, style := range doc.Styles {
		if slices.Contains(doc.Styles[:i], style) {
			c.warn(fmt.Sprintf("%s.styles[%d]", path, i), "%s stands there twice", style)
		}
	}
	switch {
	case doc.Keep == "" && doc.Days > 0:
		c.warn(path+".days", "nothing is kept, so nothing is deleted; set keep")
	case doc.Keep == InS3 && doc.S3 == nil && !c.reported(path+".s3"):
		c.fail(path+".keep", "which bucket? add s3: {endpoint, bucket, access_key, secret_key}")
	case doc.Keep != InS3 && doc.S3 != nil:
		c.warn(path+".s3", "this bucket is not used; set keep: s3")
	}
	has := func(key string, s Secret) bool { // what cannot be resolved here is there all the same
		_, written := c.doc.places[parent(path)+"."+key]
		return written || s.Reveal() != ""
	}
	if doc.Keep != "" && !has("access_token", center.AccessToken) && (!has("username", center.Username) || !has("password", center.Password)) {
		c.warn(path+".keep", "recordings cannot be fetched without username and password, or an access_token")
	}
	if doc.S3 == nil {
		return
	}
	path += ".s3"
	if at := path + ".endpoint"; doc.S3.Endpoint != "" && !isBaseURL(doc.S3.Endpoint) {
		c.fail(at, "%q is no address; write https://host", clip(doc.S3.Endpoint))
	}
	if at := path + ".bucket"; doc.S3.Bucket != "" && !bucketName.MatchString(doc.S3.Bucket) {
		c.fail(at, "%q is no name of a bucket: 3 to 63 lower-case letters, digits, dots and hyphens", clip(doc.S3.Bucket))
	}
	if at := path + ".prefix"; len(doc.S3.Prefix) > 500 || !objectPrefix.MatchString(doc.S3.Prefix) {
		c.fail(at, "%q cannot stand in front of a name; write it like recordings/", clip(doc.S3.Prefix))
	}
	c.literal(path+".secret_key", doc.S3.SecretKey)
}

func (c *compiler) literal(path string, s Secret) {
	if s.Literal() {
		c.warn(path, "a secret stands in the document; ${env:NAME} or ${secret:NAME} keeps it out")
	}
}

func (c *compiler) connections() {
	for _, name := range keysOf(c.doc.Connections) {
		doc, path := c.doc.Connections[name], "connections."+name
		var wrong []string // settings that the driver complained of
		driver, known := c.drivers[doc.Driver]
		switch {
		case doc.Driver != "" && !identifier.MatchString(doc.Driver):
			c.fail(path+".driver", "%q is no driver", clip(doc.Driver))
		case known:
			wrong = c.settings(path+".settings", driver, doc.Settings)
		case doc.Driver != "" && len(c.drivers) > 0:
			unknown(c, path+".driver", "driver", doc.Driver, c.drivers)
		}
		for _, setting := range keysOf(doc.Settings) {
			at := path + ".settings." + setting
			if secretName(setting) || slices.Contains(driver.Secrets, setting) {
				c.literal(at, doc.Settings[setting].Secret)
			}
			if value := doc.Settings[setting]; strings.HasSuffix(setting, "_url") && value.Reveal() != "" && !isBaseURL(value.Reveal()) && !slices.Contains(wrong, setting) {
				c.fail(at, "this is no address; write https://host") // without the value, it may be a secret
			}
		}
	}
}

// settings has the driver look at the settings of a connection, as far as they
// could be read, and returns those that are wrong.
func (c *compiler) settings(path string, driver Driver, settings map[string]Setting) (wrong []string) {
	texts := make(map[string]string, len(settings))
	for name, value := range settings {
		texts[name] = value.Reveal()
	}
	for _, p := range driver.Check(texts) {
		wrong = append(wrong, p.Setting)
		if at := path + "." + p.Setting; !c.reported(at) {
			c.fail(at, "%s", p.Message)
		}
	}
	return wrong
}

// secretName tells from its name whether a setting is a secret.
func secretName(name string) bool {
	for _, word := range []string{"key", "token", "secret", "password"} {
		if strings.Contains(strings.ToLower(name), word) {
			return true
		}
	}
	return false
}

func (c *compiler) sites() {
	for _, name := range keysOf(c.doc.Sites) {
		doc, path := c.doc.Sites[name], "sites."+name
		for i, origin := range doc.Origins {
			at := fmt.Sprintf("%s.origins[%d]", path, i)
			if u, err := url.Parse(origin); !c.reported(at) && (err != nil || u.Host == "" || u.User != nil ||
				(u.Scheme != "https" && u.Scheme != "http") || u.Scheme+"://"+u.Host != origin) {
				c.fail(at, "%q is no origin; write https://host or https://host:port, without a path", clip(origin))
			}
		}
		for i, key := range doc.Keys {
			c.literal(fmt.Sprintf("%s.keys[%d]", path, i), key)
		}
		if _, ok := c.doc.ContactCenters[doc.ContactCenter]; doc.ContactCenter != "" && !ok {
			unknown(c, path+".contact_center", "contact center", doc.ContactCenter, c.doc.ContactCenters)
		}
		for i, schedule := range doc.OfflineOutside {
			at := fmt.Sprintf("%s.offline_outside[%d]", path, i)
			if _, ok := c.schedules[schedule]; !ok {
				unknown(c, at, "schedule", schedule, c.schedules)
				continue
			}
			c.usedSchedules[schedule] = true
		}
		if doc.OfflineOutside != nil && doc.WebCallback == nil {
			c.warn(path+".offline_outside", "this site has no webcallback that could show as offline")
		}
		if doc.WebCallback != nil {
			c.webCallback(path+".webcallback", doc.WebCallback)
		}
		if doc.Jorel != nil {
			c.jorel(path+".jorel", doc.Jorel)
		}
		if doc.Popup != nil {
			c.popup(path+".popup", doc.Popup)
			if len(doc.Keys) == 0 {
				c.warn(path, "the pop-up needs a key or a signed token; this site has no keys")
			}
		}
		if doc.WebCallback == nil && doc.Jorel == nil && doc.Popup == nil {
			c.warn(path, "this site embeds nothing: it has neither webcallback nor jorel nor popup")
		}
	}
}

// language is a language tag as it stands in the lang attribute of a page.
var language = regexp.MustCompile(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$`)

// ziwoTexts are the custom texts that Ziwo documents.
var ziwoTexts = []string{
	"mainButtonTooltip", "offlineButtonTooltip", "formTitle", "formInputLabel", "formButton",
	"successTitle", "successMessage", "failureTitle", "failureMessage",
}

// OwnKey is the key of an embedded configuration under which the server tells
// its own scripts what Ziwo's do not know.
const OwnKey = "calltracker"

func (c *compiler) webCallback(path string, doc *WebCallback) {
	if _, taken := doc.Other[OwnKey]; taken {
		c.fail(path+"."+OwnKey, "this key is the server's own; choose another")
	}
	for i, extension := range doc.Extensions {
		if at := fmt.Sprintf("%s.extensions[%d]", path, i); extension == "" && !c.reported(at) {
			c.fail(at, "the extension is empty")
		}
	}
	c.translations(path+".customTexts", doc.CustomTexts, ziwoTexts, func(at, key, hint string) {
		c.warn(at, "%q is no text that Ziwo documents%s", clip(key), hint)
	})
}

// translations checks the languages, and tells of each text that is not known, with a
// hint at the one that was meant.
func (c *compiler) translations(path string, doc map[string]Translation, known []string, tell func(at, key, hint string)) {
	check := func(at, key string) {
		if slices.Contains(known, key) {
			return
		}
		hint := ""
		if near := nearest(key, known); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		tell(at, key, hint)
	}
	for _, key := range keysOf(doc) {
		at := path + "." + key
		if doc[key].Texts == nil {
			check(at, key)
			continue
		}
		if !language.MatchString(key) {
			c.fail(at, "%q is no language; write it like en, fr or ar", clip(key))
		}
		for _, text := range keysOf(doc[key].Texts) {
			check(at+"."+text, text)
		}
	}
}

func (c *compiler) jorel(path string, doc *Jorel) {
	calls := doc.ClickToCall
	if calls == nil {
		return
	}
	if !calls.Links && !calls.Text && len(calls.Selectors) == 0 {
		c.warn(path+".clickToCall", "this makes nothing clickable: set links, selectors or text")
	}
	for i, selector := range calls.Selectors {
		if at := fmt.Sprintf("%s.clickToCall.selectors[%d]", path, i); strings.TrimSpace(selector) == "" && !c.reported(at) {
			c.fail(at, "the selector is empty")
		}
	}
	if region := strings.ToUpper(doc.DefaultRegionCode); region == "" {
		c.warn(path+".clickToCall", "only international numbers can be called; set defaultRegionCode for national ones")
	} else if !phone.KnownRegion(region) && !c.reported(path+".defaultRegionCode") {
		c.fail(path+".defaultRegionCode", "%q is no country; use two letters such as AE", clip(doc.DefaultRegionCode))
	}
}

// callStates are the states of a call in Ziwo's browser events
// (https://www.ziwo.io/api-integration-developers/).
var callStates = []string{"requesting", "trying", "early", "ringing", "answering", "active", "held", "hangup", "destroy", "recovering"}

// cardTexts are what the card of the pop-up says.
var cardTexts = []string{"inbound", "outbound", "open", "close", "choose", "none", "unavailable", "search", "looking"}

func (c *compiler) popup(path string, doc *Popup) {
	for i, name := range doc.Connections {
		if _, ok := c.doc.Connections[name]; !ok {
			unknown(c, fmt.Sprintf("%s.connections[%d]", path, i), "connection", name, c.doc.Connections)
		}
	}
	for i, state := range doc.On {
		if !slices.Contains(callStates, state) {
			c.fail(fmt.Sprintf("%s.on[%d]", path, i), "%q is no call state; use %s", clip(state), strings.Join(callStates, ", "))
		}
	}
	c.translations(path+".texts", doc.Texts, cardTexts, func(at, key, hint string) {
		c.fail(at, "%q is no text of the card; use %s%s", clip(key), strings.Join(cardTexts, ", "), hint)
	})
}

func isBaseURL(value string) bool {
	u, err := url.Parse(value)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") && u.User == nil
}

func (c *compiler) tests() {
	for i, doc := range c.doc.Tests {
		path := fmt.Sprintf("tests[%d]", i)
		tracker, ok := c.doc.Trackers[doc.Tracker]
		if !ok {
			if doc.Tracker != "" {
				unknown(c, path+".tracker", "tracker", doc.Tracker, c.doc.Trackers)
			}
			continue
		}
		if want := doc.Expect.Route; want != nil {
			routes := make(map[string]Route, len(tracker.Routes))
			for _, r := range tracker.Routes {
				routes[r.ID] = r
			}
			if _, ok := routes[*want]; !ok {
				unknown(c, path+".expect.route", "route", *want, routes)
			}
		}
		if doc.Expect == (Expectation{}) && !c.reported(path) {
			c.fail(path+".expect", "nothing is expected; name route, numbers or voicemail")
		}
	}
}
