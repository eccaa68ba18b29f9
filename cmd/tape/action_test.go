// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v3"
)

// action is a composite action, as GitHub reads it.
type action struct {
	Inputs  map[string]struct{ Default string }
	Outputs map[string]struct{ Value string }
	Runs    struct{ Steps []step }
}

type step struct {
	ID, If, Run, Uses string
	Env               map[string]string
}

// actionCommand runs examples/ci/action.yml like a runner of GitHub, on pull request 7 with the
// base $BASE: action NAME=VALUE|NAME=@FILE…. The output of the steps is in action.log, and
// their outputs are variables. Steps that use other actions are not run.
func actionCommand(ts *testscript.TestScript, neg bool, args []string) {
	dir := filepath.Join(ts.Getenv("REPOSITORY"), "examples/ci")
	data, err := os.ReadFile(filepath.Join(dir, "action.yml"))
	ts.Check(err)
	var a action
	ts.Check(yaml.Unmarshal(data, &a))
	runner := ts.MkAbs(".runner")
	ts.Check(os.MkdirAll(runner, 0o755))
	is := map[string]string{
		"github.event.pull_request.base.sha": ts.Getenv("BASE"), "github.event.pull_request.number": "7",
		"github.token": "secret", "github.actor": "somebody", "runner.temp": runner, "runner.os": "Linux",
	}
	for name, input := range a.Inputs {
		is["inputs."+name] = expand(ts, is, input.Default)
	}
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		if _, ok := a.Inputs[name]; !ok {
			ts.Fatalf("the action has no input %s", name)
		}
		if file, ok := strings.CutPrefix(value, "@"); ok {
			value = strings.TrimSpace(ts.ReadFile(file))
		}
		is["inputs."+name] = value
	}
	files := map[string]string{}
	for _, name := range []string{"GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"} {
		files[name] = filepath.Join(runner, strings.ToLower(name))
		ts.Check(os.WriteFile(files[name], nil, 0o644))
		ts.Setenv(name, files[name])
	}
	ts.Setenv("GITHUB_ACTIONS", "true")
	ts.Setenv("GITHUB_ACTION_PATH", dir)
	read := func(name string) string {
		data, err := os.ReadFile(files[name])
		ts.Check(err)
		return string(data)
	}
	var log strings.Builder
	failed := error(nil)
	for _, s := range a.Runs.Steps {
		if s.Run == "" || !holds(ts, is, s.If, failed) {
			continue
		}
		for name, value := range s.Env {
			ts.Setenv(name, expand(ts, is, value))
		}
		script := filepath.Join(runner, "step.sh")
		ts.Check(os.WriteFile(script, []byte(s.Run), 0o644))
		err := ts.Exec("bash", "--noprofile", "--norc", "-eo", "pipefail", script)
		log.WriteString(ts.ReadFile("stdout") + ts.ReadFile("stderr"))
		if failed == nil {
			failed = err
		}
		for line := range strings.Lines(read("GITHUB_PATH")) {
			ts.Setenv("PATH", strings.TrimSpace(line)+string(os.PathListSeparator)+ts.Getenv("PATH"))
		}
		for line := range strings.Lines(read("GITHUB_OUTPUT")) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			is["steps."+s.ID+".outputs."+name] = value
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs("action.log"), []byte(log.String()), 0o644))
	if neg != (failed != nil) {
		ts.Fatalf("the action ended with %v", failed)
	}
	for name, o := range a.Outputs {
		ts.Setenv(strings.ToUpper(name), expand(ts, is, o.Value))
	}
}

var expression = regexp.MustCompile(`\$\{\{ *(.*?) *\}\}`)

// expand replaces the expressions in a text. An expression without a value is empty.
func expand(ts *testscript.TestScript, is map[string]string, text string) string {
	return expression.ReplaceAllStringFunc(text, func(e string) string {
		name := expression.FindStringSubmatch(e)[1]
		if root, _, _ := strings.Cut(name, "."); !slices.Contains([]string{"github", "inputs", "runner", "steps"}, root) {
			ts.Fatalf("unknown expression %s", e)
		}
		return is[name]
	})
}

var comparison = regexp.MustCompile(`^([a-z_.-]+) (==|!=) '([^']*)'$`)

// holds evaluates a condition of a step, after a step failed or none did.
func holds(ts *testscript.TestScript, is map[string]string, condition string, failed error) bool {
	for part := range strings.SplitSeq(condition, " && ") {
		if part == "!cancelled()" {
			failed = nil
			continue
		}
		m := comparison.FindStringSubmatch(part)
		if m == nil {
			ts.Fatalf("unknown condition %q", part)
		}
		if (is[m[1]] == m[3]) != (m[2] == "==") {
			return false
		}
	}
	return failed == nil
}

// githubCommand starts an API that stores comments of pull requests in comments/ID, each made
// by POST and changed by PATCH: github.
func githubCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: github")
	}
	var (
		mu       sync.Mutex
		comments []string
	)
	dir := ts.MkAbs("comments")
	ts.Check(os.MkdirAll(dir, 0o755))
	// keep stores the current text of a comment; -1 is a new one.
	keep := func(w http.ResponseWriter, r *http.Request, id int) {
		var comment struct{ Body string }
		if err := json.NewDecoder(r.Body).Decode(&comment); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if id == -1 {
			comments, id = append(comments, ""), len(comments)
		}
		if id >= len(comments) {
			http.NotFound(w, r)
			return
		}
		comments[id] = comment.Body
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(id)), []byte(comment.Body), 0o644); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, "{}")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /repos/acme/shop/issues/7/comments", func(w http.ResponseWriter, _ *http.Request) {
		list := []map[string]any{}
		mu.Lock()
		defer mu.Unlock()
		for id, body := range comments {
			list = append(list, map[string]any{"id": id, "body": body})
		}
		_ = json.NewEncoder(w).Encode(list)
	})
	mux.HandleFunc("POST /repos/acme/shop/issues/7/comments", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusCreated)
		keep(w, r, -1)
	})
	mux.HandleFunc("PATCH /repos/acme/shop/issues/comments/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil || id < 0 {
			http.NotFound(w, r)
			return
		}
		keep(w, r, id)
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintln(w, `{"message": "Resource not accessible by integration"}`)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	ts.Defer(server.Close)
	ts.Setenv("GITHUB_API_URL", server.URL)
	ts.Setenv("GITHUB_REPOSITORY", "acme/shop")
}
