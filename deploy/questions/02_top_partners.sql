-- Title: Which partners sold most in the last 30 days?
-- One row is a partner.
select
    media_partner as partner,
    count(*) as actions,
    sum(sale_amount) as sale_amount,
    sum(payout) as payout
from impact.actions
where status <> 'REVERSED' and _day >= current_date - 30
group by 1
order by sale_amount desc nulls last
limit 20
