// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v3"
)

// runsAs runs a script of a CI system with the scripts of examples/ci on the PATH.
func runsAs(ts *testscript.TestScript, neg bool, env map[string]string, script string) {
	env["PATH"] = filepath.Join(ts.Getenv("REPOSITORY"), "examples/ci") + string(os.PathListSeparator) + ts.Getenv("PATH")
	for name, value := range env {
		ts.Setenv(name, value)
	}
	if err := ts.Exec("bash", "-eo", "pipefail", "-c", script); (err != nil) != neg {
		ts.Fatalf("the script ended with %v", err)
	}
}

// replaced replaces the placeholders that a pattern matches by values, all of which must exist.
func replaced(ts *testscript.TestScript, pattern *regexp.Regexp, values map[string]string, text string) string {
	return pattern.ReplaceAllStringFunc(text, func(placeholder string) string {
		value, ok := values[pattern.FindStringSubmatch(placeholder)[1]]
		if !ok {
			ts.Fatalf("%s has no value", placeholder)
		}
		return value
	})
}

// given returns the values of arguments NAME=VALUE.
func given(args []string) map[string]string {
	values := map[string]string{}
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		values[name] = value
	}
	return values
}

var gitlabInput = regexp.MustCompile(`\$\[\[ inputs\.([a-z-]+) \]\]`)

// gitlabCommand runs a job of examples/ci/gitlab.yml like GitLab, for a merge request with the
// base $BASE, in a project whose variable TAPE_KEY is the file tape.key: gitlab JOB
// INPUT=VALUE….
func gitlabCommand(ts *testscript.TestScript, neg bool, args []string) {
	data, err := os.ReadFile(filepath.Join(ts.Getenv("REPOSITORY"), "examples/ci/gitlab.yml"))
	ts.Check(err)
	header, jobs, _ := strings.Cut(string(data), "\n---\n")
	var component struct {
		Spec struct {
			Inputs map[string]struct{ Default *string }
		}
	}
	ts.Check(yaml.Unmarshal([]byte(header), &component))
	values := given(args[1:])
	for name, input := range component.Spec.Inputs {
		if _, ok := values[name]; !ok && input.Default != nil {
			values[name] = *input.Default
		}
	}
	var all map[string]struct {
		Variables map[string]string
		Script    []string
	}
	ts.Check(yaml.Unmarshal([]byte(replaced(ts, gitlabInput, values, jobs)), &all))
	job := all[args[0]]
	env := map[string]string{"GITLAB_CI": "true", "CI_MERGE_REQUEST_DIFF_BASE_SHA": ts.Getenv("BASE"), "TAPE_KEY": ts.ReadFile("tape.key")}
	for name, value := range job.Variables {
		env[name] = value
	}
	runsAs(ts, neg, env, strings.Join(job.Script, "\n"))
}

var tektonVariable = regexp.MustCompile(`\$\(([a-z.-]+)\)`)

// tektonCommand runs the step of examples/ci/tekton.yaml like Tekton, with this folder as the
// workspaces. The result ref is in the file ref: tekton PARAM=VALUE….
func tektonCommand(ts *testscript.TestScript, neg bool, args []string) {
	data, err := os.ReadFile(filepath.Join(ts.Getenv("REPOSITORY"), "examples/ci/tekton.yaml"))
	ts.Check(err)
	values := map[string]string{
		"workspaces.checkout.path": ts.MkAbs("."), "workspaces.keys.path": ts.MkAbs("."),
		"workspaces.docker.path": ts.Getenv("DOCKER_CONFIG"), "results.ref.path": ts.MkAbs("ref"),
	}
	for name, value := range given(args) {
		values["params."+name] = value
	}
	var task struct {
		Spec struct {
			Steps []struct {
				Script string
				Env    []struct{ Name, Value string }
			}
		}
	}
	ts.Check(yaml.Unmarshal(data, &task))
	for _, step := range task.Spec.Steps {
		env := map[string]string{}
		for _, e := range step.Env {
			env[e.Name] = replaced(ts, tektonVariable, values, e.Value)
		}
		runsAs(ts, neg, env, step.Script)
	}
}
