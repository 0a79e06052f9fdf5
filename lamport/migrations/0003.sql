-- Schema 3: see the file of this number that comes with compressed blocks.
SELECT 1;
