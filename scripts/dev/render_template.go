// Renders Modelfile templates with Go's own text/template, as Ollama executes one of the .Messages form.
//
// stdin: {name: {"template": text, "conversations": [[{"role", "content"}, ...], ...]}}; stdout: {name: [text, ...]}.
// Standard library only. Run by ollama_golden.py; the tests read what it wrote, so CI needs no Go.
package main

import (
	"encoding/json"
	"log"
	"os"
	"strings"
	"text/template"
)

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type task struct {
	Template      string      `json:"template"`
	Conversations [][]message `json:"conversations"`
}

// render gives the template what Ollama gives it: all system prompts joined as .System, and all messages, those of one
// role that follow each other made one, as .Messages.
func render(compiled *template.Template, messages []message) (string, error) {
	var systems []string
	var turns []*message
	for _, next := range messages {
		next := next
		if next.Role == "system" {
			systems = append(systems, next.Content)
		}
		if last := len(turns) - 1; last >= 0 && turns[last].Role == next.Role {
			turns[last].Content += "\n\n" + next.Content
		} else {
			turns = append(turns, &next)
		}
	}
	var text strings.Builder
	values := map[string]any{"System": strings.Join(systems, "\n\n"), "Messages": turns, "Response": ""}
	err := compiled.Execute(&text, values)
	return text.String(), err
}

func main() {
	var tasks map[string]task
	if err := json.NewDecoder(os.Stdin).Decode(&tasks); err != nil {
		log.Fatal(err)
	}
	rendered := map[string][]string{}
	for name, given := range tasks {
		compiled, err := template.New("").Option("missingkey=zero").Parse(given.Template)
		if err != nil {
			log.Fatal(name, ": ", err)
		}
		for _, messages := range given.Conversations {
			text, err := render(compiled, messages)
			if err != nil {
				log.Fatal(name, ": ", err)
			}
			rendered[name] = append(rendered[name], text)
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(rendered); err != nil {
		log.Fatal(err)
	}
}
