"""The looks of the report: one style sheet for a phone, a desk, light and dark."""

from evomerge.results.figures import STYLE as FIGURES

STYLE = (
    """
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2024;--soft:#5a6169;--line:#dfe3e8;--dot:#7d8790;
--accent:#0b62c4;--second:#a84300;--raised:#f5f7f9;--shade:#0003}
@media (prefers-color-scheme:dark){:root{--paper:#14171a;--ink:#e8eaed;--soft:#a3abb3;--line:#31373d;--dot:#7f8a94;
--accent:#5aa5ff;--second:#ff9d57;--raised:#1d2125;--shade:#fff4}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,
'DejaVu Sans',sans-serif}
main{max-width:1080px;margin:0 auto;padding:16px}
h1{font-size:1.25rem;margin:.2rem 0 .8rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.4rem 0 .6rem;padding-top:.8rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.2rem 0 .3rem}
p{margin:.4rem 0;max-width:75ch;overflow-wrap:anywhere}
a{color:var(--accent)}
nav{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.9rem;margin:.6rem 0}
.verdict{border:2px solid var(--ink);border-radius:8px;padding:.8rem 1rem;background:var(--raised)}
.verdict b{font-size:1.35rem;line-height:1.25;display:block;overflow-wrap:anywhere}
.verdict .symbol{margin-right:.5rem}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.6rem;margin:1rem 0;padding:0}
.facts div{background:var(--raised);border-radius:6px;padding:.5rem .7rem}
.facts dt{color:var(--soft);font-size:.85rem}
.facts dd{margin:0;font-weight:600;overflow-wrap:anywhere}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:1rem 1.6rem}
figure{margin:.6rem 0;max-width:620px}
figcaption{font-weight:600;margin-bottom:.3rem;overflow-wrap:anywhere}
svg{display:block;width:100%;height:auto}
.wide{overflow-x:auto;background:linear-gradient(to right,var(--paper) 40%,transparent),
linear-gradient(to left,var(--paper) 40%,transparent) 100% 0,linear-gradient(to right,var(--shade),transparent),
linear-gradient(to left,var(--shade),transparent) 100% 0;background-repeat:no-repeat;
background-size:48px 100%,48px 100%,16px 100%,16px 100%;background-attachment:local,local,scroll,scroll}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;margin:.5rem 0}
th,td{text-align:right;padding:.25rem .4rem;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}
th{color:var(--soft);font-weight:600}
th.words,td.words{text-align:left}
td.words{white-space:normal;min-width:9rem;overflow-wrap:anywhere}
tr.pick td{font-weight:700}
pre{background:var(--raised);border-radius:6px;padding:.7rem;overflow-x:auto;font-size:.82rem;line-height:1.4;
white-space:pre-wrap;overflow-wrap:anywhere}
code{font-size:.9em}
details{margin:.6rem 0}
summary{cursor:pointer;font-weight:600}
.soft{color:var(--soft)}
@media print{nav{display:none}h2{break-after:avoid}figure,table{break-inside:avoid}}
"""
    + FIGURES
)
