-- Title: What has impact.com changed afterwards, and by how much?
-- One row is a load that changed the sums of a window that had been loaded before.
select
    l.committed_at as read_at,
    r.export,
    r.from_day,
    r.to_day,
    r.column_name,
    r.rows_changed,
    r.sum_before,
    r.sum_after,
    r.sum_after - r.sum_before as difference
from impact_mirror.restatement r
join impact_mirror.load l on l.id = r.load_id
order by l.committed_at desc, r.export, r.column_name
limit 200
