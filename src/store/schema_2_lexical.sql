-- Version 2: the words of passages. The index itself is made when a database is opened (`lexical.rs`), since its tokenizer
-- is a setting; this is what fills it and keeps it in step.

-- What the index reads of a passage.
CREATE VIEW passage_words AS
    SELECT c.id, d.title, (SELECT group_concat(value, ' ') FROM json_each(c.heading_path)) AS headings, c.text
    FROM chunks AS c JOIN documents AS d ON d.key = c.document;

-- Every way in and out of `chunks` comes by here, a cascade from `documents` included, in the transaction that goes it.
CREATE TRIGGER passage_words_added AFTER INSERT ON chunks BEGIN
    INSERT INTO passages (rowid, title, headings, text)
        SELECT id, title, headings, text FROM passage_words WHERE id = new.id;
END;

CREATE TRIGGER passage_words_removed AFTER DELETE ON chunks BEGIN
    DELETE FROM passages WHERE rowid = old.id;
END;

CREATE TRIGGER passage_words_changed AFTER UPDATE OF heading_path, text ON chunks BEGIN
    DELETE FROM passages WHERE rowid = old.id;
    INSERT INTO passages (rowid, title, headings, text)
        SELECT id, title, headings, text FROM passage_words WHERE id = new.id;
END;

-- A document that is put again has no chunks at that moment, so this costs nothing there.
CREATE TRIGGER passage_words_titled AFTER UPDATE OF title ON documents WHEN new.title <> old.title BEGIN
    DELETE FROM passages WHERE rowid IN (SELECT id FROM chunks WHERE document = new.key);
    INSERT INTO passages (rowid, title, headings, text)
        SELECT w.id, w.title, w.headings, w.text FROM chunks AS c JOIN passage_words AS w ON w.id = c.id
        WHERE c.document = new.key;
END;
