-- The tables the worker works on, and three old orders. The second cannot be closed: it is not paid.
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    organization_id TEXT,
    state TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    paid INTEGER NOT NULL,
    CHECK (state <> 'closed' OR paid = 1)
);
CREATE TABLE closings (organization_id TEXT, day INTEGER NOT NULL, closed INTEGER NOT NULL);
INSERT INTO orders VALUES (1, 'acme', 'open', 0, 1), (2, 'acme', 'open', 0, 0), (3, 'bell', 'open', 0, 1);
