-- Title: What did partners sell and cost, month by month?
-- One row is a month in the zone of the account. Reversed actions are left out; the current month goes on.
select
    date_trunc('month', _day)::date as month,
    count(*) as actions,
    sum(sale_amount) as sale_amount,
    sum(payout) as payout,
    round(sum(payout) / nullif(sum(sale_amount), 0) * 100, 2) as cost_in_percent
from impact.actions
where status <> 'REVERSED'
group by 1
order by 1
