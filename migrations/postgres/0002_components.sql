-- Components. Each logs in with a role of its own, which may touch nothing in this schema. What the engine writes in the transaction of
-- one goes through functions of the schema verger_run, which ask for a secret that only the engine knows.

-- The sessions of components. Unlogged: after a crash of the server there are none.
CREATE UNLOGGED TABLE verger.guests (
    pid integer PRIMARY KEY,
    secret bytea NOT NULL,                          -- SHA-256 of it
    xid xid8,                                       -- the transaction that is under way
    organization_id text                            -- whose rows that transaction may see, if it is confined
);

CREATE FUNCTION verger.admit(secret bytea) RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM verger.guests g WHERE g.pid = pg_backend_pid() AND g.secret = sha256(admit.secret)) THEN
        RAISE EXCEPTION 'only the engine may do that' USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;
REVOKE ALL ON FUNCTION verger.admit FROM PUBLIC;

DO $$ BEGIN
    IF EXISTS (SELECT 1 FROM pg_namespace WHERE nspname IN ('verger_run', 'verger_sql')
        AND nspowner <> (SELECT nspowner FROM pg_namespace WHERE nspname = 'verger')) THEN
        RAISE EXCEPTION 'the schema verger_run or verger_sql is there and belongs to another role than the schema verger: drop it';
    END IF;
END $$;
CREATE SCHEMA IF NOT EXISTS verger_run;
GRANT USAGE ON SCHEMA verger_run TO PUBLIC;

-- The tenant of this transaction, for the policies of the app's tables. Null, and so no rows, outside the transaction that the engine
-- said it for.
CREATE OR REPLACE FUNCTION verger_run.tenant() RETURNS text LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$SELECT g.organization_id FROM verger.guests g WHERE g.pid = pg_backend_pid() AND g.xid = pg_current_xact_id_if_assigned()$$;

-- Takes from a component's role what it has on relations, and drops the policies that are for it alone. With the rights of whoever
-- calls it: the SQL that brings grants up to date begins with this.
CREATE FUNCTION verger.take_back(role text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    of oid := (SELECT oid FROM pg_roles WHERE rolname = role);
    what text;
BEGIN
    FOR what IN
        SELECT DISTINCT format('REVOKE ALL ON %s %I.%I FROM %I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, n.nspname, c.relname, role)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE EXISTS (SELECT 1 FROM aclexplode(c.relacl) a WHERE a.grantee = of)
            OR EXISTS (SELECT 1 FROM pg_attribute t, aclexplode(t.attacl) a WHERE t.attrelid = c.oid AND a.grantee = of)
        UNION ALL SELECT format('DROP POLICY %I ON %I.%I', p.polname, n.nspname, c.relname)
        FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.polroles = ARRAY[of]
    LOOP
        EXECUTE what;
    END LOOP;
END $$;

-- Functions that SQLite has and this server lacks, for workers that were written for both. They compute, and nothing else.
CREATE SCHEMA IF NOT EXISTS verger_sql;
GRANT USAGE ON SCHEMA verger_sql TO PUBLIC;

CREATE OR REPLACE FUNCTION verger_sql.ifnull(anycompatible, anycompatible) RETURNS anycompatible LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$SELECT coalesce($1, $2)$$;
CREATE OR REPLACE FUNCTION verger_sql.iif(boolean, anycompatible, anycompatible) RETURNS anycompatible LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$SELECT CASE WHEN $1 THEN $2 ELSE $3 END$$;
-- With two arguments; with one they are the server's aggregates. NULL if either is, as in SQLite.
CREATE OR REPLACE FUNCTION verger_sql.min(anycompatible, anycompatible) RETURNS anycompatible LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$SELECT least($1, $2)$$;
CREATE OR REPLACE FUNCTION verger_sql.max(anycompatible, anycompatible) RETURNS anycompatible LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$SELECT greatest($1, $2)$$;
CREATE OR REPLACE FUNCTION verger_sql.instr(text, text) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$SELECT strpos($1, $2)::bigint$$;
CREATE OR REPLACE FUNCTION verger_sql.unicode(text) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$SELECT nullif(ascii($1), 0)::bigint$$;
CREATE OR REPLACE FUNCTION verger_sql.hex(bytea) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$SELECT upper(encode($1, 'hex'))$$;
CREATE OR REPLACE FUNCTION verger_sql.hex(text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$SELECT upper(encode(convert_to($1, 'UTF8'), 'hex'))$$;
CREATE OR REPLACE FUNCTION verger_sql.round(double precision, integer) RETURNS double precision LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$SELECT round($1::numeric, greatest($2, 0))::double precision$$;
CREATE OR REPLACE FUNCTION verger_sql.typeof(anyelement) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN $1 IS NULL THEN 'null'
        WHEN pg_typeof($1) IN ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype, 'boolean'::regtype) THEN 'integer'
        WHEN pg_typeof($1) IN ('real'::regtype, 'double precision'::regtype, 'numeric'::regtype) THEN 'real'
        WHEN pg_typeof($1) = 'bytea'::regtype THEN 'blob' ELSE 'text' END $$;
CREATE OR REPLACE AGGREGATE verger_sql.group_concat(text, text) (SFUNC = string_agg_transfn, STYPE = internal, FINALFUNC = string_agg_finalfn);
CREATE OR REPLACE FUNCTION verger_sql.comma_after(text, text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$SELECT CASE WHEN $2 IS NULL THEN $1 WHEN $1 IS NULL THEN $2 ELSE $1 || ',' || $2 END$$;
CREATE OR REPLACE AGGREGATE verger_sql.group_concat(text) (SFUNC = verger_sql.comma_after, STYPE = text);
CREATE OR REPLACE FUNCTION verger_sql.add_to_total(double precision, double precision) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$SELECT $1 + coalesce($2, 0)$$;
CREATE OR REPLACE AGGREGATE verger_sql.total(double precision) (SFUNC = verger_sql.add_to_total, STYPE = double precision, INITCOND = '0');

-- JSON in texts. What is no JSON is an error, as in SQLite, but for json_valid.
CREATE OR REPLACE FUNCTION verger_sql.json_valid(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF $1 IS NULL THEN RETURN NULL; END IF;
    PERFORM $1::json;
    RETURN true;
EXCEPTION WHEN invalid_text_representation THEN
    RETURN false;
END $$;
-- What a path leads to: `$`, `$.key`, `$."a key"`, `$[0]`, one after the other.
CREATE OR REPLACE FUNCTION verger_sql.json_at(text, text) RETURNS json LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    step text[];
    at json := $1::json;
    rest text := substr($2, 2);
BEGIN
    IF left($2, 1) <> '$' THEN
        RAISE EXCEPTION 'the path % does not begin with $', $2 USING ERRCODE = 'invalid_parameter_value';
    END IF;
    WHILE rest <> '' LOOP
        step := regexp_match(rest, '^(?:\.([^."\[]+)|\."([^"]*)"|\[([0-9]+)\])(.*)$');
        IF step IS NULL THEN
            RAISE EXCEPTION 'the path % cannot be read', $2 USING ERRCODE = 'invalid_parameter_value';
        END IF;
        -- The operator takes a text for a key of an object, and a number for a place in an array.
        at := CASE WHEN step[3] IS NOT NULL THEN CASE WHEN json_typeof(at) = 'array' THEN at -> step[3]::integer END
            ELSE CASE WHEN json_typeof(at) = 'object' THEN at -> coalesce(step[1], step[2]) END END;
        rest := step[4];
    END LOOP;
    RETURN at;
END $$;
CREATE OR REPLACE FUNCTION verger_sql.json_type(text, text DEFAULT '$') RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE json_typeof(at) WHEN 'string' THEN 'text' WHEN 'boolean' THEN at::text
        WHEN 'number' THEN CASE WHEN at::text ~ '[.eE]' THEN 'real' ELSE 'integer' END ELSE json_typeof(at) END
    FROM verger_sql.json_at($1, $2) AS at $$;
-- The value as a text: SQLite gives a number as a number.
CREATE OR REPLACE FUNCTION verger_sql.json_extract(text, text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE json_typeof(at) WHEN 'string' THEN at #>> '{}' WHEN 'null' THEN NULL
        WHEN 'boolean' THEN CASE at::text WHEN 'true' THEN '1' ELSE '0' END ELSE at::text END
    FROM verger_sql.json_at($1, $2) AS at $$;
CREATE OR REPLACE FUNCTION verger_sql.json_array_length(text, text DEFAULT '$') RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE json_typeof(at) WHEN 'array' THEN json_array_length(at) ELSE 0 END::bigint FROM verger_sql.json_at($1, $2) AS at $$;

-- Times, of a given instant only: the server's clock is not a worker's.
CREATE OR REPLACE FUNCTION verger_sql.instant(text) RETURNS timestamp LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET timezone = 'UTC' AS $$
BEGIN
    -- As texts of SQLite have it; words as `now` are none.
    IF $1 !~ '^\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?(Z|[+-]\d\d:\d\d)?$' THEN RETURN NULL; END IF;
    IF $1 ~ '(Z|[+-]\d\d:\d\d)$' AND length($1) > 10 THEN RETURN $1::timestamptz AT TIME ZONE 'UTC'; END IF;
    RETURN $1::timestamp;
EXCEPTION WHEN datetime_field_overflow OR invalid_datetime_format THEN
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION verger_sql.unixepoch(text) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$SELECT floor(extract(epoch FROM verger_sql.instant($1)))::bigint$$;
CREATE OR REPLACE FUNCTION verger_sql.unixepoch(text, text) RETURNS double precision LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$SELECT CASE $2 WHEN 'subsec' THEN extract(epoch FROM verger_sql.instant($1))::double precision END$$;
CREATE OR REPLACE FUNCTION verger_sql.date(double precision, text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$SELECT CASE $2 WHEN 'unixepoch' THEN to_char(to_timestamp($1) AT TIME ZONE 'UTC', 'YYYY-MM-DD') END$$;
CREATE OR REPLACE FUNCTION verger_sql.strftime(text, double precision, text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN $3 = 'unixepoch' AND $1 !~ '%[^YmdHMSfT%]' THEN replace(replace(replace(replace(replace(replace(replace(replace(replace(replace($1,
        '%%', chr(1)), '%T', '%H:%M:%S'), '%Y', to_char(t, 'YYYY')), '%m', to_char(t, 'MM')), '%d', to_char(t, 'DD')), '%H', to_char(t, 'HH24')),
        '%M', to_char(t, 'MI')), '%S', to_char(t, 'SS')), '%f', to_char(t, 'SS.MS')), chr(1), '%') END
    FROM (SELECT to_timestamp($2) AT TIME ZONE 'UTC' AS t) AS instant $$;
