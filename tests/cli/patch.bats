load common

OTHER="The Colosseum is in the city of"

@test "a sweep by position names prompts, answers and direction" {
    strata patch -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --from "$OTHER" --from-subject Colosseum \
        --from-answer Rome --align subject
    expect 0
    [ -z "$stderr" ]
    [[ $output == *"clean values are put into the corrupted run"* && $output == *"␣Paris"* && $output == *"␣Rome"* ]]
    strata patch -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --from "$OTHER" --from-subject Colosseum \
        --from-answer Rome --align subject --direction noise
    expect 0
    [[ $output == *"corrupted values are put into the clean run"* ]]
}

@test "JSON and CSV: the ends of the scale" {
    strata patch -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --from "$OTHER" --from-subject Colosseum \
        --from-answer Rome --align subject --site resid_post,z --json
    expect 0
    check 'd["format"] == "strata-patch" and d["direction"] == "denoise" and d["norm"] == "lens"'
    check '[s["site"] for s in d["sweeps"]] == ["resid_post", "z"] and [s["by"] for s in d["sweeps"]] == ["position", "head"]'
    check 'abs(d["sweeps"][0]["normalised"][-1][-1] - 1) < 1e-4 and abs(d["sweeps"][0]["normalised"][0][0]) < 1e-4'
    check 'near(d["sweeps"][0]["prob"][-1][-1], d["clean"]["prob"], 1e-4)'
    strata patch -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --from "$OTHER" --from-subject Colosseum \
        --from-answer Rome --align subject -o out.csv
    expect 0
    head -1 out.csv | grep -qx 'site,by,layer,column,token,normalised,logit_difference,p,norm'
}

@test "a folder gets numbers and a figure a site" {
    command -v gnuplot >/dev/null || skip "gnuplot is not installed"
    strata patch -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --from "$OTHER" --from-subject Colosseum \
        --align subject --site resid_pre,v -o out
    expect 0
    for name in resid_pre v; do
        for kind in svg png dat gp; do [ -s out/$name.$kind ]; done
    done
    [ -s out/patch.h5 ]
    [ -s out/patch.csv ]
    [ -z "$(ls out | grep partial)" ]
}

@test "what cannot be patched is one line" {
    strata patch -m "$TINY" "$PROMPT"
    expect 2 "--from PROMPT is missing"
    strata patch -m "$TINY" "$PROMPT" --from "$OTHER"
    expect 1 "10 tokens" "align them at their subjects"
    one_line
    strata patch -m "$TINY" "$PROMPT" --from "$OTHER" --align subject
    expect 2 "--from-subject"
    strata patch -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --from "$OTHER" --from-subject Louvre --align subject
    expect 1 "'Louvre' is not in the prompt"
    one_line
    strata patch -m "$TINY" "$PROMPT" --from "$PROMPT"
    expect 1 "both answers are token"
    one_line
    strata patch -m "$TINY" "$PROMPT" --answer Paris --from "$PROMPT" --from-answer Rome
    expect 1 "nothing to normalise by"
    one_line
    strata patch -m "$TINY" "$PROMPT" --from "$OTHER" --site resid_pree
    expect 2 "'resid_pree'" "did you mean resid_pre"
    strata patch -m "$TINY" "$PROMPT" --from "$OTHER" --site mlp_out --by head
    expect 2 "mlp_out has no heads"
    strata patch -m "$TINY" "$PROMPT" --from "$PROMPT" --site z --positions 99
    expect 1 "there is no position 99: the prompt has 10 tokens"
    one_line
    strata patch -m "$TINY" "$PROMPT" --from "$PROMPT" --site z --positions subject
    expect 1 "position 'subject': the prompt has no subject"
    strata patch -m "$TINY" "$PROMPT" --from "$OTHER" --subject "Eiffel Tower" --from-subject "Big Bon" --align subject
    expect 1 "--from: subject 'Big Bon' is not in the prompt"
    one_line
    strata patch -m "$TINY" "$PROMPT" --from "$OTHER" --positions last
    expect 2 "--by head"
    strata patch -m "$TINY" "$PROMPT" --from "$OTHER" --site z,z
    expect 2 "twice"
}
