// Closes orders that stayed open for too long, and counts them by day.
package main

import "{{package}}/verger"

const day = 86_400_000

type object = map[string]any

var manifest = object{
	"name":         "{{name}}",
	"version":      "0.1.0",
	"description":  "Closes orders that stayed open for too long, and counts them by day.",
	"tenant_aware": true,
	"args": object{
		"days":       object{"default": 30, "description": "Orders opened longer ago than so many days are closed."},
		"batch_size": object{"default": 100, "description": "Orders between two commits."},
	},
	"tables": []object{
		{"table": "orders", "verbs": []string{"read", "update"}},
		{"table": "closings", "verbs": []string{"read", "insert", "update"}},
	},
}

func init() { verger.Worker(manifest, perform) }

// A worker is a library: nothing calls this.
func main() {}

func perform(_ *verger.Scope, args verger.Args) verger.Outcome {
	days, err := verger.Arg[int64](args, "days")
	if err != nil {
		return verger.Failed(err)
	}
	size, err := verger.Arg[int](args, "batch_size")
	if err != nil {
		return verger.Failed(err)
	}
	before, last := verger.Now()-days*day, int64(-1)
	closed, errors := 0, 0
	for {
		// Paged by its key: a checkpoint closes what is being read.
		page, err := verger.All(
			"SELECT id, organization_id FROM orders WHERE state = 'open' AND opened_at < ?1 AND id > ?2 ORDER BY id LIMIT ?3",
			before, last, size,
		)
		if err != nil {
			return verger.Failed(err)
		}
		for _, order := range page {
			last = order.Int("id")
			err := verger.Savepoint(func() error { return closeOrder(order) })
			switch {
			case err == nil:
				closed++
				continue
			// One bad row does not stop the others; anything else ends the attempt.
			case !verger.ConcernsOneRow(err):
				return verger.Failed(err)
			}
			errors++
			err = verger.Audit(verger.Event{
				Action: "order.not_closed", Outcome: verger.Failure, Organization: order.Text("organization_id"),
				SubjectType: "order", SubjectID: order.Text("id"), Metadata: object{"code": verger.Code(err)},
			})
			if err != nil {
				return verger.Failed(err)
			}
		}
		verger.Progress(closed+errors, 0)
		if len(page) < size {
			return verger.DoneWith(object{"closed": closed, "errors": errors})
		}
		if err := verger.Checkpoint(); err != nil {
			return verger.Failed(err)
		}
	}
}

func closeOrder(order verger.Row) error {
	organization, today := order["organization_id"], verger.Now()/day
	if _, err := verger.Execute("UPDATE orders SET state = 'closed' WHERE id = ?1 AND state = 'open'", order["id"]); err != nil {
		return err
	}
	// UPDATE, then INSERT: a table confined to one organization takes no UPSERT.
	known, err := verger.Execute("UPDATE closings SET closed = closed + 1 WHERE organization_id IS ?1 AND day = ?2", organization, today)
	if err != nil {
		return err
	}
	if known == 0 {
		if _, err := verger.Execute("INSERT INTO closings (organization_id, day, closed) VALUES (?1, ?2, 1)", organization, today); err != nil {
			return err
		}
	}
	return verger.Audit(verger.Event{
		Action: "order.closed", Organization: order.Text("organization_id"), SubjectType: "order", SubjectID: order.Text("id"),
	})
}
