// Renders a chart as `helm template` does, where there is no helm: the same template engine and function library, from Debian's
// packages golang-go, golang-github-masterminds-sprig-dev and golang-k8s-sigs-yaml-dev:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run tests/deploy/helm/render.go RELEASE CHART [KEY=VALUE]…
//
// A value is YAML; keys have dots. What a chart would need beyond this (subcharts, hooks, `lookup`) is an error.
package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		log.Fatal("usage: render.go RELEASE CHART [KEY=VALUE]…")
	}
	release, chart := os.Args[1], os.Args[2]
	values, about := read(filepath.Join(chart, "values.yaml")), read(filepath.Join(chart, "Chart.yaml"))
	for _, setting := range os.Args[3:] {
		key, value, _ := strings.Cut(setting, "=")
		set(values, strings.Split(key, "."), value)
	}
	// Chart.yaml's keys are known to templates with a capital.
	described := map[string]any{}
	for key, value := range about {
		described[strings.ToUpper(key[:1])+key[1:]] = value
	}
	top := map[string]any{
		"Values": values,
		"Chart":  described,
		"Release": map[string]any{
			"Name": release, "Namespace": "default", "Service": "Helm", "IsInstall": true, "IsUpgrade": false, "Revision": 1,
		},
	}

	all := template.New("chart").Option("missingkey=zero")
	functions := sprig.TxtFuncMap()
	delete(functions, "env")
	delete(functions, "expandenv")
	functions["include"] = func(name string, data any) (string, error) {
		var said bytes.Buffer
		err := all.ExecuteTemplate(&said, name, data)
		return said.String(), err
	}
	functions["toYaml"] = func(value any) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	functions["required"] = func(complaint string, value any) (any, error) {
		if value == nil || value == "" {
			return nil, fmt.Errorf("%s", complaint)
		}
		return value, nil
	}
	all.Funcs(functions)

	files, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	check(err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		check(err)
		_, err = all.New(filepath.Base(file)).Parse(string(text))
		check(err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		if strings.HasPrefix(name, "_") {
			continue
		}
		var said bytes.Buffer
		check(all.ExecuteTemplate(&said, name, top))
		// As helm: what is not given is empty, not a word.
		text := strings.ReplaceAll(said.String(), "<no value>", "")
		var parsed any
		if err := yaml.UnmarshalStrict([]byte(text), &parsed); err != nil {
			log.Fatalf("%s is not YAML: %v\n%s", name, err, text)
		}
		if parsed != nil {
			fmt.Printf("---\n# Source: %s\n%s\n", name, strings.TrimSpace(text))
		}
	}
}

func read(file string) map[string]any {
	text, err := os.ReadFile(file)
	check(err)
	var values map[string]any
	check(yaml.UnmarshalStrict(text, &values))
	return values
}

func set(values map[string]any, path []string, text string) {
	if len(path) > 1 {
		inner, ok := values[path[0]].(map[string]any)
		if !ok {
			log.Fatalf("values.yaml has no %s", path[0])
		}
		set(inner, path[1:], text)
		return
	}
	if _, ok := values[path[0]]; !ok {
		log.Fatalf("values.yaml has no %s", path[0])
	}
	var value any
	check(yaml.Unmarshal([]byte(text), &value))
	values[path[0]] = value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
